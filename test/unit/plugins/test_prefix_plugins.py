"""The approximate prefix producer and the scorer that reads it."""

import pytest
from support.pools import Shelf, decision, pool, request, tools

from epp.plugins.producers.approx_prefix import ApproxPrefixCacheProducer, among
from epp.plugins.scorers.prefix_cache import PrefixCacheScorer

PLAIN = {"autoTune": False, "blockSizeTokens": 16, "minBlockTokens": 16}


def producer(given=PLAIN, lent=None):
    return ApproxPrefixCacheProducer(
        ApproxPrefixCacheProducer.Params.model_validate(given), lent or tools("approx")
    )


def sent(it, view, row, *prompts, **fields):
    it.picked(request(*prompts, **fields), view, decision(view.endpoints[row]))


def cached(it, view, *prompts, **fields):
    return it.columns(request(*prompts, **fields), view)["prefix_tokens"].tolist()


def test_the_very_next_request_matches():
    it, view = producer(), pool(3)
    sent(it, view, 1, range(100))

    assert cached(it, view, range(100)) == [0, 96, 0]


def test_matches_are_the_leading_blocks():
    it, view = producer(), pool(2)
    sent(it, view, 0, range(100))

    assert cached(it, view, [*range(40), *range(500, 600)]) == [32, 0]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"target_model": "adapter"}, id="model-or-adapter"),
        pytest.param({"cache_salt": "tenant"}, id="salt"),
    ],
)
def test_what_the_engine_keeps_apart_does_not_match(other):
    it, view = producer(), pool(1)
    sent(it, view, 0, range(100))

    assert cached(it, view, range(100), **other) == [0]


def test_prompts_of_a_batch_are_matched_one_by_one():
    it, view = producer(), pool(2)
    sent(it, view, 0, range(32))
    sent(it, view, 1, range(100, 148))

    assert cached(it, view, range(32), range(100, 148)) == [32, 48]


def test_the_columns_have_plain_and_own_names():
    it, view = producer(), pool(2)
    columns = it.columns(request(range(100)), view)

    assert columns.keys() == {
        "prefix_tokens",
        "prefix_total",
        "prefix_tokens/approx",
        "prefix_total/approx",
    }
    assert columns["prefix_total"].tolist() == [96, 96]


def test_keys_are_computed_once_for_a_request():
    it, view, asked = producer(), pool(1), request(range(100))
    it.columns(asked, view)
    kept = asked.facts.get(it._key)
    it.picked(asked, view, decision(view.endpoints[0]))

    assert asked.facts.get(it._key) is kept


def test_every_profiles_pick_is_learned():
    it, view = producer(), pool(3)
    both = decision(view.endpoints[0], others=[("any-name", view.endpoints[2])])
    it.picked(request(range(64)), view, both)

    assert cached(it, view, range(64)) == [64, 0, 64]


@pytest.mark.parametrize(
    ("given", "columns", "block"),
    [
        pytest.param({}, {}, 64, id="coarse-by-default"),
        pytest.param({}, {"block_size": [16.0, 16.0]}, 64, id="engine-16"),
        pytest.param({}, {"block_size": [24.0, 24.0]}, 72, id="a-multiple-of-the-engines"),
        pytest.param({}, {"block_size": [128.0, 16.0]}, 128, id="largest-of-the-pool"),
        pytest.param({"autoTune": False}, {"block_size": [128.0, 128.0]}, 64, id="not-tuned"),
        pytest.param(PLAIN, {}, 16, id="exact"),
        pytest.param({"blockSizeTokens": 256}, {"block_size": [0.0, 0.0]}, 256, id="not-reported"),
    ],
)
def test_block_size(given, columns, block):
    assert producer(given).block_tokens(pool(2, **columns)) == block


def test_capacity_is_counted_in_tokens_of_the_engine():
    it = producer({"autoTune": True})
    view = pool(1, kv_blocks=[40.0], block_size=[16.0])
    sent(it, view, 0, range(2000))

    assert cached(it, view, range(2000)) == [640]


def test_capacity_follows_the_engines_report():
    it = producer({"autoTune": True})
    sent(it, pool(1, kv_blocks=[40.0], block_size=[16.0]), 0, range(2000))
    larger = pool(1, kv_blocks=[80.0], block_size=[16.0])
    sent(it, larger, 0, range(2000))

    assert cached(it, larger, range(2000)) == [1280]


def test_unreported_capacity_is_the_configured_one():
    it, view = producer(PLAIN | {"lruCapacityPerServer": 3}), pool(1)
    sent(it, view, 0, range(100))

    assert cached(it, view, range(100)) == [48]


@pytest.mark.parametrize(
    ("limit", "matched"),
    [
        pytest.param({"maxPrefixTokensToMatch": 50}, 48, id="tokens"),
        pytest.param({"maxPrefixBlocksToMatch": 2}, 32, id="blocks"),
    ],
)
def test_a_match_is_capped(limit, matched):
    it, view = producer(PLAIN | limit), pool(1)
    sent(it, view, 0, range(100))

    assert cached(it, view, range(100)) == [matched]


def test_what_was_learned_outlives_a_reload():
    shelf, view = Shelf(), pool(1)
    sent(producer(lent=tools("approx", state=shelf)), view, 0, range(100))

    assert cached(producer(lent=tools("approx", state=shelf)), view, range(100)) == [96]


def test_an_endpoint_that_has_gone_leaves_nothing_to_its_slot():
    it, view = producer(), pool(1)
    sent(it, view, 0, range(100))
    it.index.on_removed(0)

    assert cached(it, view, range(100)) == [0]


def test_a_subset_of_the_pool_keeps_its_slots():
    it, view = producer(), pool(20)
    sent(it, view, 17, range(100))
    part = view.take(view.slots >= 15)

    assert cached(it, part, range(100)) == [0, 0, 96, 0, 0]


def test_holders_outside_the_view_are_left_out():
    view = pool(2)

    assert among(1 << 500 | 0b10, view.slots).tolist() == [False, True]


@pytest.mark.parametrize(
    ("given", "columns", "scores"),
    [
        pytest.param({}, {"prefix_tokens": [0, 48, 96]}, [0, 0.5, 1], id="share"),
        pytest.param(
            {"matchLengthWeight": 1.0, "matchLengthScaleTokens": 192},
            {"prefix_tokens": [0, 48, 96]},
            [0, 0.0625, 0.25],
            id="length-squared",
        ),
        pytest.param(
            {"matchLengthWeight": 0.5, "matchLengthScaleTokens": 48},
            {"prefix_tokens": [0, 48, 96]},
            [0, 0.75, 1],
            id="both-and-capped",
        ),
        pytest.param(
            {"prefixMatchInfoProducerName": "mine"},
            {
                "prefix_tokens": [96, 96, 96],
                "prefix_tokens/mine": [0, 0, 96],
                "prefix_total/mine": [96] * 3,
            },
            [0, 0, 1],
            id="named-producer",
        ),
    ],
)
def test_prefix_cache_scorer(given, columns, scores):
    scorer = PrefixCacheScorer(PrefixCacheScorer.Params.model_validate(given))
    view = pool(3, prefix_total=[96] * 3, **columns)

    assert scorer.score(request(range(100)), view) == pytest.approx(scores)


def test_prefix_cache_scorer_has_no_opinion_where_nobody_looked():
    assert PrefixCacheScorer(PrefixCacheScorer.Params()).score(request(range(100)), pool(2)) is None


def test_a_prompt_shorter_than_a_block_matches_nowhere():
    it, view = producer(), pool(2)
    asked = request(range(10))
    scorer = PrefixCacheScorer(PrefixCacheScorer.Params())

    assert scorer.score(asked, view.having(it.columns(asked, view))).tolist() == [0, 0]


def test_endpoints_match_alike_however_many_there_are():
    it, view = producer(), pool(60)
    for row, length in ((0, 96), (2, 48), (7, 160), (40, 96)):
        sent(it, view, row, range(length))
    few = view.take(view.slots < 8)

    assert cached(it, few, range(100)) == [96, 0, 48, 0, 0, 0, 0, 96]
    assert cached(it, view, range(100))[:8] == cached(it, few, range(100))
