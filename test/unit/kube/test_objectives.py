"""Which objectives count, and what they say."""

import json

import msgspec
import pytest
from support.kube_objects import ALPHA_GROUP, POOL_GROUP, objective

from epp.kube.objectives import ObjectiveBook, PoolName
from epp.kube.objects import Objective


def book(*groups):
    made = ObjectiveBook(PoolName("pool", POOL_GROUP))
    decode = msgspec.json.Decoder(Objective).decode
    made.replace(*([decode(json.dumps(item)) for item in group] for group in groups))
    return made


@pytest.mark.parametrize(
    ("item", "priority"),
    [
        pytest.param(objective("o", 7), 7, id="for this pool"),
        pytest.param(objective("o", -1), -1, id="sheddable"),
        pytest.param(objective("o"), 0, id="without a priority"),
        pytest.param(objective("o", 7, pool="other"), 0, id="for another pool"),
        pytest.param(objective("o", 7, pool_group=ALPHA_GROUP), 0, id="for another group's pool"),
    ],
)
def test_priority_of_an_objective(item, priority):
    assert book([item]).priority("o") == priority


def test_a_name_nobody_knows_has_none():
    assert book([]).priority("o") == 0


def test_of_one_name_in_two_groups_the_newer_counts():
    older = objective("o", 1, group=ALPHA_GROUP)

    assert book([objective("o", 2)], [older]).priority("o") == 2
    assert book([], [older]).priority("o") == 1


def test_what_is_no_longer_there_is_forgotten():
    made = book([objective("o", 7)])
    made.replace([])

    assert made.priority("o") == 0
