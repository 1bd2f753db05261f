"""Scorers of load: the numbers of their formulas, and what they make of old metrics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pools import objects, pool, request

from epp.datastore.sample import NO_LORA, LoraState
from epp.plugins.scorers.active_request import ActiveRequestScorer
from epp.plugins.scorers.kv_cache import KvCacheUtilizationScorer
from epp.plugins.scorers.load_aware import LoadAwareScorer
from epp.plugins.scorers.lora_affinity import LoraAffinityScorer
from epp.plugins.scorers.queue import QueueScorer
from epp.plugins.scorers.running import RunningRequestsSizeScorer
from epp.plugins.scorers.token_load import TokenLoadScorer


def made(scorer, **params):
    return scorer(scorer.Params(**params))


@pytest.mark.parametrize(
    ("scorer", "columns", "scores"),
    [
        pytest.param(QueueScorer(), {"waiting": [10, 5, 0]}, [0, 0.5, 1], id="queue"),
        pytest.param(QueueScorer(), {"waiting": [7, 7, 7]}, [1, 1, 1], id="queue-equal"),
        pytest.param(QueueScorer(), {"waiting": [3]}, [1], id="queue-alone"),
        pytest.param(
            RunningRequestsSizeScorer(), {"running": [4, 2, 8]}, [2 / 3, 1, 0], id="running"
        ),
        pytest.param(
            KvCacheUtilizationScorer(), {"kv_usage": [0.8, 0.5, 0]}, [0.2, 0.5, 1], id="kv"
        ),
        pytest.param(
            KvCacheUtilizationScorer(), {"kv_usage": [1.2, -0.1]}, [0, 1], id="kv-out-of-range"
        ),
        pytest.param(
            made(LoadAwareScorer),
            {"waiting": [0, 64, 128, 500]},
            [0.5, 0.25, 0, 0],
            id="load-aware",
        ),
        pytest.param(
            made(LoadAwareScorer, threshold=10),
            {"waiting": [0, 5, 20]},
            [0.5, 0.25, 0],
            id="load-aware-threshold",
        ),
        pytest.param(
            made(ActiveRequestScorer),
            {"inflight_requests": [0, 5, 10]},
            [1, 0.5, 0],
            id="active",
        ),
        pytest.param(
            made(ActiveRequestScorer, idleThreshold=2, maxBusyScore=0.5),
            {"inflight_requests": [0, 2, 3, 12]},
            [1, 1, 0.375, 0],
            id="active-idle-and-busy",
        ),
        pytest.param(
            made(ActiveRequestScorer), {"inflight_requests": [0, 0]}, [1, 1], id="active-none"
        ),
        pytest.param(
            made(TokenLoadScorer, queueThresholdTokens=1000),
            {"inflight_tokens": [0, 500, 5000]},
            [0.9, 0.4, 0],
            id="token-load",
        ),
        pytest.param(
            made(TokenLoadScorer, queueThresholdTokens=1000),
            {"inflight_tokens": [500, 500], "prefix_tokens": [100, 64]},
            [0.5, 0.464],
            id="token-load-counts-the-uncached",
        ),
    ],
)
def test_scores(scorer, columns, scores):
    assert scorer.score(request(range(100)), pool(**columns)) == pytest.approx(scores)


@pytest.mark.parametrize(
    ("scorer", "columns"),
    [
        pytest.param(QueueScorer(), {"waiting": [0, 4, 2]}, id="queue"),
        pytest.param(RunningRequestsSizeScorer(), {"running": [0, 4, 2]}, id="running"),
        pytest.param(KvCacheUtilizationScorer(), {"kv_usage": [0, 0.9, 0.5]}, id="kv"),
        pytest.param(made(LoadAwareScorer), {"waiting": [0, 100, 2]}, id="load-aware"),
    ],
)
class TestOldMetrics:
    def test_an_endpoint_without_fresh_metrics_is_never_the_idle_one(self, scorer, columns):
        scores = scorer.score(request(), pool(fresh=[False, True, True], **columns))

        assert scores[0] == 0
        assert scores[2] > scores[1]

    def test_where_none_is_fresh_what_we_sent_decides(self, scorer, columns):
        scores = scorer.score(request(), pool(fresh=[False] * 3, **columns))

        assert scores.tolist() == scorer.score(request(), pool(**columns)).tolist()


@pytest.mark.parametrize(
    ("state", "score"),
    [
        pytest.param(LoraState(frozenset({"m"}), frozenset(), 2), 1.0, id="running"),
        pytest.param(LoraState(frozenset({"a"}), frozenset(), 2), 0.8, id="room"),
        pytest.param(LoraState(frozenset({"a"}), frozenset({"m"}), 2), 0.6, id="waiting"),
        pytest.param(LoraState(frozenset({"a", "b"}), frozenset(), 2), 0.0, id="full"),
        pytest.param(NO_LORA, 0.0, id="no-lora-there"),
    ],
)
def test_lora_affinity(state, score):
    view = pool(lora=[state, LoraState(frozenset({"x"}), frozenset(), 1)])

    assert LoraAffinityScorer().score(request(), view).tolist() == [score, 0.0]


def test_lora_affinity_has_no_opinion_where_nobody_has_adapters():
    assert LoraAffinityScorer().score(request(), pool(2)) is None


loads = st.lists(st.floats(0, 1e9), min_size=1, max_size=20)


@given(loads, st.data())
def test_queue_scores_stay_in_range_and_keep_the_order(waiting, data):
    fresh = data.draw(st.lists(st.booleans(), min_size=len(waiting), max_size=len(waiting)))
    scores = QueueScorer().score(request(), pool(waiting=waiting, fresh=fresh))

    assert scores.min() >= 0
    assert scores.max() <= 1
    believed = np.flatnonzero(fresh)
    by_load = believed[np.argsort(np.array(waiting)[believed])]
    assert (np.diff(scores[by_load]) <= 0).all()


def test_the_builder_makes_object_columns():
    assert objects([NO_LORA]).dtype == object
