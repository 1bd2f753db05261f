"""Decision records: found by id, bounded, and told in full when asked."""

import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.domain.decision import Decision, FilteredBy, ProfileResult, ProfileTrace, ScoredBy
from epp.domain.endpoint import Endpoint
from epp.domain.request import Head, Prompt, Request
from epp.domain.response import Ending
from epp.errors import NoEndpoints
from epp.observe.decisions import DecisionLog, FilterWord, ScorerWord

POD_A = Endpoint("pod-a", "10.0.0.1", 8000)
TRACE = ProfileTrace(
    "default",
    filtered=(FilteredBy("decode-filter", ("pod-c",)),),
    candidates=("pod-a", "pod-b"),
    scores=(ScoredBy("queue-scorer", 2.0, (1.0, 0.25)),),
    totals=(2.0, 0.5),
)
DECISION = Decision(
    request_id="x", primary=ProfileResult("default", (POD_A,), (2.0,), TRACE), reason="short queue"
)


def request(ours: str = "ours", theirs: str = "theirs", **fields) -> Request:
    return Request(id=ours, head=Head({"x-request-id": theirs}), model="llama", **fields)


def test_a_record_says_all_of_the_decision():
    log = DecisionLog()
    log.placed(request(), DECISION, 0.001)
    (record,) = log.find("ours")
    (profile,) = record.profiles

    assert (record.destination, record.reason) == ("10.0.0.1:8000", "short queue")
    assert (profile.picked, profile.candidates) == (("pod-a",), ("pod-a", "pod-b"))
    assert profile.filters == (FilterWord("decode-filter", ("pod-c",)),)
    assert profile.scorers == (ScorerWord("queue-scorer", 2.0, {"pod-a": 1.0, "pod-b": 0.25}),)
    assert profile.totals == {"pod-a": 2.0, "pod-b": 0.5}


def test_requests_that_share_a_clients_id_are_all_found_newest_first():
    log = DecisionLog()
    for ours in ("1", "2", "3"):
        log.placed(request(ours, "same" if ours != "2" else "else"), DECISION, 0.001)

    assert [record.id for record in log.find("same")] == ["3", "1"]


def test_an_unknown_id_finds_nothing():
    assert DecisionLog().find("nobody") == ()


def test_a_refusal_is_recorded_with_its_reason():
    log = DecisionLog()
    log.refused(request(), NoEndpoints("none is ready"), 0.5)
    (record,) = log.find("theirs")

    told = (record.status, record.refusal, record.reason, record.seconds)
    assert told == (503, "none is ready", "no-endpoints", 0.5)


def test_a_request_that_could_not_be_read_leaves_no_record():
    log = DecisionLog()
    log.refused(None, NoEndpoints("none"), 0.5)

    assert len(log) == 0


def test_the_ending_is_added():
    log = DecisionLog()
    log.placed(request(), DECISION, 0.001)
    log.ended("ours", Ending.UPSTREAM_ERROR, 502)

    (record,) = log.find("ours")
    assert (record.ending, record.status) == ("upstream-error", 502)


def test_the_end_of_a_forgotten_request_is_let_go():
    log = DecisionLog()
    log.ended("ours", Ending.COMPLETE, 200)

    assert len(log) == 0


def test_the_last_ones_are_newest_first():
    log = DecisionLog()
    for number in range(5):
        log.placed(request(str(number)), DECISION, 0.001)

    assert [record.id for record in log.last(2)] == ["4", "3"]


@pytest.mark.parametrize("refused", [False, True])
def test_no_record_holds_on_to_a_body(refused):
    class Tokens(list):
        """A list that can be watched going away."""

    log, tokens = DecisionLog(), Tokens([1, 2, 3])
    asked = request(prompts=(Prompt(token_ids=tokens),))
    gone = weakref.ref(tokens)
    if refused:
        log.refused(asked, NoEndpoints("none"), 0.1)
    else:
        log.placed(asked, DECISION, 0.1)
    del asked, tokens
    gc.collect()

    assert gone() is None


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 400)), max_size=60))
def test_the_ring_keeps_within_its_bounds(steps):
    log = DecisionLog(max_records=5, max_bytes=20_000)
    for ours, width in steps:
        names = tuple(f"pod-{number}" for number in range(width))
        trace = ProfileTrace("default", candidates=names, totals=(0.0,) * width)
        primary = ProfileResult("default", (POD_A,), (0.0,), trace)
        log.placed(request(str(ours)), Decision(request_id="x", primary=primary), 0.1)

        assert len(log) <= 5
        assert 0 <= log.held_bytes <= 20_000
