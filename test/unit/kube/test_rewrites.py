"""Which rule of which rewrite applies, and which of its targets."""

import json
import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kube_objects import ALPHA_GROUP, POOL_GROUP, rewrite, rule

from epp.kube.objectives import PoolName
from epp.kube.objects import Rewrite, Target
from epp.kube.rewrites import MOST_DECISIONS, Choice, RewriteBook

OLD, NEW = (
    {"creationTimestamp": "2026-01-01T00:00:00Z"},
    {"creationTimestamp": "2026-01-02T00:00:00Z"},
)


def book(*groups):
    made = RewriteBook(PoolName("pool", POOL_GROUP), random.Random(1))
    decode = msgspec.json.Decoder(Rewrite).decode
    made.replace(*([decode(json.dumps(item)) for item in group] for group in groups))
    return made


@pytest.mark.parametrize(
    ("items", "target"),
    [
        pytest.param([rewrite("r", rule("chat", to="v1"))], "v1", id="named"),
        pytest.param([rewrite("r", rule("other", to="v1"))], None, id="another model"),
        pytest.param([rewrite("r", rule(to="v1"))], "v1", id="for all"),
        pytest.param([rewrite("r", rule("x", "chat", to="v1"))], "v1", id="one of several"),
        pytest.param(
            [rewrite("a", rule(to="all"), **OLD), rewrite("b", rule("chat", to="exact"), **NEW)],
            "exact",
            id="exact beats generic, older or not",
        ),
        pytest.param(
            [
                rewrite("a", rule("chat", to="new"), **NEW),
                rewrite("b", rule("chat", to="old"), **OLD),
            ],
            "old",
            id="older object first",
        ),
        pytest.param(
            [rewrite("r", rule("chat", to="first"), rule("chat", to="second"))],
            "first",
            id="first rule of an object",
        ),
        pytest.param([rewrite("r", rule("chat", to="v1"), pool="other")], None, id="another pool"),
        pytest.param(
            [rewrite("r", {"matches": [{}], "targets": [{"modelRewrite": "v1"}]})],
            "v1",
            id="an empty match is for all",
        ),
        pytest.param(
            [rewrite("r", {"matches": [], "targets": []}, rule(to="v1"))],
            "v1",
            id="a rule without targets is none",
        ),
    ],
)
def test_which_rule_applies(items, target):
    assert book(items).target("chat") == target


def test_of_one_name_in_two_groups_the_newer_counts():
    older = rewrite("r", rule("chat", to="old"), group=ALPHA_GROUP, **OLD)

    assert book([rewrite("r", rule("chat", to="new"), **NEW)], [older]).target("chat") == "new"
    assert book([], [older]).target("chat") == "old"


def test_targets_are_drawn_by_weight():
    made = book([rewrite("r", rule("chat", to={"v1": 90, "v2": 10}))])
    drawn = Counter(made.target("chat") for _ in range(2000))

    assert 120 < drawn["v2"] < 280


@given(st.lists(st.one_of(st.none(), st.integers(1, 1_000_000)), min_size=1, max_size=5))
def test_every_target_with_a_weight_can_be_drawn_and_no_other(weights):
    targets = tuple(Target(str(n), weight) for n, weight in enumerate(weights))
    possible = {t.model_rewrite for t in targets if t.weight or not any(weights)}

    class Ends:
        def __init__(self, last):
            self.last = last

        def randrange(self, stop):
            return stop - 1 if self.last else 0

    drawn = {Choice("r", targets).draw(Ends(last)) for last in (False, True)}

    assert drawn <= possible


def test_decisions_are_counted_by_object_model_and_target():
    made = book([rewrite("r", rule("chat", to="v1"))])
    for model in ("chat", "chat", "other"):
        made.target(model)

    assert made.decisions == {("r", "chat", "v1"): 2}


def test_names_that_clients_make_up_are_counted_together_once_they_are_many():
    made = book([rewrite("all", rule(to="v1"))])
    for number in range(MOST_DECISIONS + 50):
        made.target(f"m-{number}")

    assert len(made.decisions) == MOST_DECISIONS + 1
    assert made.decisions["all", "other", "v1"] == 50
