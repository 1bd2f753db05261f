"""What a client says of its workload, and what is made of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.domain.workload import LONGEST_ID, Workload, workload_of


def said(text):
    return workload_of({"x-workload-context": text})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"workload_id": "a", "criticality": 5}', Workload("a", 5), id="both"),
        pytest.param('{"workload_id": "a"}', Workload("a", 3), id="no-criticality"),
        pytest.param('{"criticality": 1}', Workload("", 1), id="no-id"),
        pytest.param('{"workload_id": "", "criticality": 4}', Workload("", 4), id="empty-id"),
        pytest.param('{"criticality": 9}', Workload("", 5), id="clamped-down"),
        pytest.param('{"criticality": -9}', Workload("", 1), id="clamped-up"),
        pytest.param('{"criticality": "5"}', Workload("", 3), id="text-is-no-number"),
        pytest.param('{"criticality": true}', Workload("", 3), id="nor-is-true"),
        pytest.param('{"workload_id": 7}', Workload("", 3), id="a-number-is-no-id"),
        pytest.param(json.dumps({"workload_id": "x" * 129}), Workload("", 3), id="long-id"),
        pytest.param('{"workload_id": "a\\nb"}', Workload("", 3), id="unprintable-id"),
        pytest.param("[1]", Workload("", 3), id="no-object"),
        pytest.param("{", Workload("", 3), id="no-json"),
        pytest.param("", Workload("", 3), id="empty"),
        pytest.param(json.dumps({"workload_id": "y" * 2000}), Workload("", 3), id="long-header"),
    ],
)
def test_a_workload(text, expected):
    assert said(text) == expected


def test_without_the_header_there_is_none():
    assert workload_of({}) == Workload("", 3)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())
OBJECTS = st.fixed_dictionaries({"workload_id": VALUES, "criticality": VALUES}).map(json.dumps)


@given(st.text() | OBJECTS)
def test_whatever_is_said_is_bounded(text):
    workload = said(text)

    assert 1 <= workload.criticality <= 5
    assert len(workload.id) <= LONGEST_ID
