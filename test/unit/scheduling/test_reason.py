"""Decisions in one line."""

import msgspec
import pytest
from support.stores import pod

from epp.domain.decision import Decision, ProfileResult, ProfileTrace, ScoredBy
from epp.scheduling.reason import in_words


@pytest.fixture
def decision():
    names = ("pod-0", "pod-1", "pod-2", "pod-3")
    totals = (0.25, 1.0, 0.5, 0.125)
    trace = ProfileTrace("p", (), names, (ScoredBy("queue-scorer", 1.0, totals),), totals)
    primary = ProfileResult("p", (pod(1),), (1.0,), trace)
    return Decision(request_id="r", primary=primary, reason="as configured")


def test_the_best_three_and_who_rated_them(decision):
    assert in_words(decision) == "pod-1 1.00, pod-2 0.50, pod-0 0.25 by queue-scorer"


def test_without_scores_it_is_the_decisions_own_reason(decision):
    primary = msgspec.structs.replace(decision.primary, trace=None)

    assert in_words(msgspec.structs.replace(decision, primary=primary)) == "as configured"
