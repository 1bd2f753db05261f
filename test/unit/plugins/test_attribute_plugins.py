"""Caps on load, filters and scorers of any column, session ids, shedding by chance."""

import numpy as np
import pytest
from pydantic import ValidationError
from support.pools import pool, request, tools

from epp.errors import Saturated
from epp.plugins.admitters.probabilistic import ProbabilisticAdmitter
from epp.plugins.facts import SESSION_ID
from epp.plugins.filters.endpoint_attribute import EndpointAttributeFilter
from epp.plugins.filters.utilization import UtilizationFilter
from epp.plugins.producers.session_id import SessionIdProducer
from epp.plugins.scorers.endpoint_attribute import EndpointAttributeScorer


def made(plugin, given, *lent):
    return plugin(plugin.Params.model_validate(given), *lent)


def kept(plugin, view):
    return plugin.filter(request(), view).nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("metric", "column"),
    [
        ("active-requests", "inflight_requests"),
        ("running-requests", "running"),
        ("waiting-queue", "waiting"),
        ("kv-cache-utilization", "kv_usage"),
    ],
)
def test_a_cap_drops_what_is_above_it(metric, column):
    it = made(UtilizationFilter, {"conditions": [{"metric": metric, "maxValue": 1}]})

    assert kept(it, pool(**{column: [0, 1, 2]})) == [0, 1]


def test_every_cap_must_hold():
    caps = [
        {"metric": "waiting-queue", "maxValue": 5},
        {"metric": "kv-cache-utilization", "maxValue": 0.9},
    ]
    it = made(UtilizationFilter, {"conditions": caps})

    assert kept(it, pool(waiting=[0, 9, 0], kv_usage=[0.95, 0.1, 0.9])) == [2]


@pytest.mark.parametrize(("falls_back", "left"), [(True, [0, 1]), (False, [])])
def test_caps_that_leave_none(falls_back, left):
    given = {
        "conditions": [{"metric": "waiting-queue", "maxValue": 1}],
        "fallbackOnEmpty": falls_back,
    }

    assert kept(made(UtilizationFilter, given), pool(waiting=[5, 6])) == left


@pytest.mark.parametrize(
    ("fresh", "left"),
    [
        pytest.param([True, False, False], [0], id="old-metrics-pass-no-cap"),
        pytest.param([False, False, False], [0, 1, 2], id="none-fresh-none-asked"),
    ],
)
def test_caps_and_old_metrics(fresh, left):
    it = made(UtilizationFilter, {"conditions": [{"metric": "waiting-queue", "maxValue": 1}]})

    assert kept(it, pool(waiting=[0, 0, 9], fresh=fresh)) == left


def attribute_filter(operator="LessThan", value=2.0, **more):
    algorithm = {"type": "threshold", "threshold": {"operator": operator, "value": value}}
    return made(EndpointAttributeFilter, {"attribute": "heat", "algorithm": algorithm} | more)


@pytest.mark.parametrize(
    ("operator", "left"),
    [
        ("LessThan", [0]),
        ("LessThanOrEqual", [0, 1]),
        ("GreaterThan", [2]),
        ("GreaterThanOrEqual", [1, 2]),
        ("Equal", [1]),
        ("NotEqual", [0, 2]),
    ],
)
def test_attribute_operators(operator, left):
    assert kept(attribute_filter(operator), pool(heat=[1.0, 2.0, 3.0])) == left


@pytest.mark.parametrize(
    ("on_missing", "operator", "left"),
    [
        ("Pass", "LessThan", [0, 1]),
        ("Fail", "LessThan", [0]),
        ("Fail", "NotEqual", [0, 2]),
    ],
)
def test_missing_attributes(on_missing, operator, left):
    it = attribute_filter(operator, onMissing=on_missing)

    assert kept(it, pool(heat=[1.0, np.nan, 3.0])) == left


def test_a_column_nobody_writes_is_missing_everywhere():
    assert kept(attribute_filter(onMissing="Fail"), pool(2)) == []
    assert kept(attribute_filter(onMissing="Fail", fallbackOnEmpty=True), pool(2)) == [0, 1]


def test_the_column_of_the_named_producer_comes_first():
    view = pool(**{"heat": [1.0, 9.0], "heat/mine": [9.0, 1.0]})

    assert kept(attribute_filter(producer="mine"), view) == [1]


def attribute_scorer(kind, normalization):
    algorithm = {"type": f"linear_{kind}_is_better", "normalization": normalization}
    return made(EndpointAttributeScorer, {"attributeKey": "heat", "algorithm": algorithm})


@pytest.mark.parametrize(
    ("kind", "normalization", "heat", "scores"),
    [
        ("lower", {"fixedRange": {"min": 0, "max": 10}}, [0, 5, 10, 20], [1, 0.5, 0, 0]),
        ("higher", {"fixedRange": {"min": 0, "max": 10}}, [-1, 5, 20], [0, 0.5, 1]),
        ("lower", {"adaptiveRange": {}}, [2, 3, 4], [1, 0.5, 0]),
        ("higher", {"adaptiveRange": {}}, [2, 2], [1, 1]),
        ("lower", {"adaptiveRange": {}}, [2, np.nan, 4], [1, 0, 0]),
    ],
)
def test_attribute_scores(kind, normalization, heat, scores):
    it = attribute_scorer(kind, normalization)

    assert it.score(request(), pool(heat=heat)).tolist() == pytest.approx(scores)


def test_attribute_scorer_has_no_opinion_where_nothing_is_known():
    assert attribute_scorer("lower", {"adaptiveRange": {}}).score(request(), pool(2)) is None


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({}, id="no-range"),
        pytest.param({"adaptiveRange": {}, "fixedRange": {"min": 0, "max": 1}}, id="two-ranges"),
        pytest.param({"fixedRange": {"min": 1, "max": 1}}, id="empty-range"),
    ],
)
def test_a_range_that_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ValidationError):
        attribute_scorer("lower", wrong)


@pytest.mark.parametrize(
    ("given", "headers", "session"),
    [
        ({"headerName": "X-Session-Id"}, {"x-session-id": "s"}, "s"),
        ({"headerName": "x-session-id"}, {}, None),
        ({"cookieName": "sid"}, {"cookie": 'a=1; sid="s 2"; b=3'}, "s 2"),
        ({"cookieName": "sid"}, {"cookie": "a=1"}, None),
        ({"cookieName": "sid"}, {"cookie": "\x00;;=="}, None),
    ],
)
def test_session_ids(given, headers, session):
    asked = request(headers=headers)
    made(SessionIdProducer, given).gather(asked)

    assert asked.facts.get(SESSION_ID) == session


@pytest.mark.parametrize("given", [{}, {"headerName": "a", "cookieName": "b"}])
def test_a_session_id_has_one_source(given):
    with pytest.raises(ValidationError, match="either"):
        made(SessionIdProducer, given)


@pytest.mark.parametrize(
    ("columns", "chance"),
    [
        pytest.param({"waiting": [0, 0]}, 0.0, id="idle"),
        pytest.param({"waiting": [1, 0]}, 300 * 0.1**5, id="queue"),
        pytest.param({"kv_usage": [0.16, 0]}, 300 * 0.1**5, id="memory"),
        pytest.param({"waiting": [5, 5]}, 1.0, id="full"),
        pytest.param({"waiting": [50, 0], "fresh": [False, True]}, 0.0, id="old-metrics"),
        pytest.param({"waiting": [50, 50], "fresh": [False, False]}, 0.0, id="none-fresh"),
    ],
)
def test_chance_to_be_shed(columns, chance):
    it = made(ProbabilisticAdmitter, {}, tools())

    assert it.chance(pool(**columns)) == pytest.approx(chance)


def test_only_sheddable_requests_are_shed():
    it, full = made(ProbabilisticAdmitter, {}, tools()), pool(waiting=[99, 99])
    it.admit(request(priority=0), full)

    with pytest.raises(Saturated) as refusal:
        it.admit(request(priority=-1), full)
    assert refusal.value.retry_after
