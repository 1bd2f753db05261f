"""Exact prefix matches: what engines say, what was picked, and what neither tells."""

from array import array

import pytest
from support.pools import Clock, Shelf, decision, pool, request, tools

from epp.assemble import assemble_text, bare_house
from epp.errors import ConfigError
from epp.plugins.catalog import CATALOGUE
from epp.plugins.producers.precise_prefix import (
    PrecisePrefixCacheProducer,
    PrecisePrefixCacheScorer,
)
from epp.tokens.blocks import cache_seed, chained, pack
from epp.tokens.tokenized import TOKENIZED, Item, Tokenized

PROMPT = range(1, 101)


def producer(given=None, lent=None, kind=PrecisePrefixCacheProducer):
    return kind(kind.Params.model_validate(given or {}), lent or tools("exact"))


def told(it, slot, tokens, *, block=16, salt="", adapter="", fast=True):
    """The engine in `slot` says that it stored these tokens."""
    it.residency.set_block_tokens(slot, block)
    it.residency.set_live(slot, True)
    if adapter:
        it.residency.note_adapter(adapter)
    keys = chained(pack(tokens), block * 4, cache_seed(salt, adapter))
    it.residency.stored(slot, [~key & (2**64 - 1) for key in keys], keys, fast=fast)


def cached(it, view, *prompts, **fields):
    return it.columns(request(*prompts, **fields), view)["prefix_tokens"].tolist()


def test_what_an_engine_says_it_holds_matches():
    it, view = producer(), pool(3)
    told(it, 1, PROMPT)

    assert cached(it, view, PROMPT) == [0, 96, 0]


def test_the_last_token_is_always_computed():
    it, view = producer(), pool(1)
    told(it, 0, PROMPT)

    assert cached(it, view, PROMPT[:96]) == [80]


def test_what_was_just_picked_is_expected():
    clock = Clock()
    it, view = producer(lent=tools("exact", clock=clock)), pool(2)
    told(it, 0, range(500, 516))
    asked = request(range(1, 200))
    it.picked(asked, view, decision(view.endpoints[0]))
    soon = cached(it, view, range(1, 200))
    clock.now += 3.0

    assert soon == [192, 0]
    assert cached(it, view, range(1, 200)) == [0, 0]


def test_without_events_our_own_picks_tell():
    clock = Clock()
    it, view = producer(lent=tools("exact", clock=clock)), pool(2)
    it.picked(request(range(1, 200)), view, decision(view.endpoints[1]))
    clock.now += 300.0

    assert cached(it, view, range(1, 200)) == [0, 192]


def test_expectations_can_be_switched_off():
    it, view = producer({"speculativeIndexing": False}), pool(1)
    told(it, 0, range(500, 516))
    it._clock.now += 0.001
    it.picked(request(range(1, 200)), view, decision(view.endpoints[0]))
    it._clock.now += 0.001

    assert cached(it, view, range(1, 200)) == [0]


def test_text_matches_by_our_own_picks_alone():
    it, view = producer(), pool(2)
    told(it, 0, PROMPT)
    it.picked(request(b"x" * 1000), view, decision(view.endpoints[0]))
    it._clock.now += 100.0

    assert cached(it, view, b"x" * 1000) == [192, 0]
    assert it.served == {"bytes": 1}


def test_text_is_cut_into_blocks_as_large_as_those_that_are_kept_of_our_own_picks():
    it, view = producer(), pool(1)
    told(it, 0, PROMPT)

    assert it.columns(request(b"x" * 4 * 100), view)["prefix_total"].tolist() == [64]


def test_text_that_a_token_producer_turned_into_tokens_matches_exactly():
    it, view, asked = producer(), pool(2), request(b"hello")
    told(it, 1, PROMPT)
    asked.facts.put(TOKENIZED, Tokenized((array("I", PROMPT),), by="render"))

    assert it.columns(asked, view)["prefix_tokens"].tolist() == [0, 96]
    assert it.served == {"render": 1}


def test_another_image_in_the_same_place_matches_only_before_it():
    it, view = producer(), pool(1)
    told(it, 0, PROMPT)
    asked = request(b"hello")
    image = Item("picture", start=40, length=4)
    asked.facts.put(TOKENIZED, Tokenized((array("I", PROMPT),), ((image,),), by="render"))

    assert it.columns(asked, view)["prefix_tokens"].tolist() == [32]


@pytest.mark.parametrize(
    ("stored", "asked", "matched"),
    [
        ({}, {}, 96),
        ({"salt": "t"}, {}, 0),
        ({"salt": "t"}, {"cache_salt": "t"}, 96),
        ({"adapter": "sql"}, {"target_model": "sql"}, 96),
        ({"adapter": "sql"}, {"target_model": "base"}, 0),
        ({}, {"target_model": "any-name-of-the-base"}, 96),
    ],
)
def test_salt_and_adapter_keep_prompts_apart(stored, asked, matched):
    it, view = producer(), pool(1)
    told(it, 0, PROMPT, **stored)

    assert cached(it, view, PROMPT, **asked) == [matched]


def test_engines_with_unlike_blocks_match_each_in_its_own():
    it, view = producer(), pool(3)
    told(it, 0, PROMPT, block=16)
    told(it, 1, PROMPT, block=32)

    assert cached(it, view, PROMPT) == [96, 96, 0]
    assert cached(it, view, PROMPT[:50]) == [48, 32, 0]


def test_blocks_outside_of_gpu_memory_are_worth_less():
    it, view = producer(), pool(1)
    told(it, 0, PROMPT[:32])
    told(it, 0, PROMPT[:64], fast=False)

    assert cached(it, view, PROMPT) == [int(32 + 0.8 * 32)]


def test_prompts_of_a_batch_are_matched_one_by_one():
    it, view = producer(), pool(1)
    told(it, 0, range(100, 148))
    told(it, 0, range(200, 264))

    assert cached(it, view, range(100, 149), range(200, 265)) == [48 + 64]


def test_columns_have_plain_and_own_names():
    columns = producer().columns(request(PROMPT), pool(2))

    assert columns.keys() == {
        "prefix_tokens",
        "prefix_total",
        "prefix_tokens/exact",
        "prefix_total/exact",
    }


def test_what_was_learned_outlives_a_reload():
    shelf = Shelf()
    told(producer(lent=tools("exact", state=shelf)), 0, PROMPT)

    assert cached(producer(lent=tools("exact", state=shelf)), pool(1), PROMPT) == [96]


def test_the_scorer_of_that_name_produces_and_scores():
    it, view, asked = producer(kind=PrecisePrefixCacheScorer), pool(2), request(PROMPT)
    told(it, 1, PROMPT)

    assert it.score(asked, view.having(it.columns(asked, view))).tolist() == [0.0, 1.0]


# -- configurations -------------------------------------------------------------------------------

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n"

WITH_PRODUCER = (
    HEAD
    + """
- type: precise-prefix-cache-producer
  name: exact
  parameters:
    tokenProcessorConfig: {blockSizeTokens: 64, hashSeed: "42"}
    indexerConfig:
      kvBlockIndexConfig: {inMemoryConfig: {size: 200000, podCacheSize: 10}, enableMetrics: true}
      kvCacheBackendConfigs: [{name: gpu, weight: 1.0}, {name: cpu, weight: 0.8}]
    kvEventsConfig:
      topicFilter: "kv@"
      concurrency: 4
      discoverPods: true
      podDiscoveryConfig: {socketPort: 5556, replaySocketPort: 5560}
    speculativeIndexing: true
    speculativeTTL: 3s
- type: prefix-cache-scorer
  parameters: {prefixMatchInfoProducerName: exact}
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: prefix-cache-scorer
  - pluginRef: max-score-picker
"""
)

WITH_SCORER = (
    HEAD
    + """
- type: precise-prefix-cache-scorer
  parameters:
    tokenProcessorConfig: {blockSize: 64, hashSeed: "42"}
    indexerConfig: {kvBlockIndexConfig: {enableMetrics: true}}
    kvEventsConfig: {zmqEndpoint: "tcp://*:5557"}
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: precise-prefix-cache-scorer
    weight: 3
  - pluginRef: max-score-picker
"""
)


def assembled(text):
    return assemble_text(text, "test", CATALOGUE, bare_house(1))


def test_a_configuration_with_the_producer_loads():
    it = assembled(WITH_PRODUCER).instances["exact"]

    assert it.residency.max_blocks == 200_000
    assert it.residency.expect_seconds == 3.0
    assert it.params.kv_events_config.pod_discovery_config.replay_socket_port == 5560


def test_a_configuration_with_the_older_scorer_loads():
    made = assembled(WITH_SCORER)

    assert "approx-prefix-cache-producer" not in made.instances
    assert not made.instances["precise-prefix-cache-scorer"].params.kv_events_config.connects


def test_the_default_scorer_reads_exact_matches_where_they_are_produced():
    made = assembled(
        HEAD
        + """
- type: precise-prefix-cache-producer
- type: expected-work-scorer
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: expected-work-scorer
"""
    )

    assert "approx-prefix-cache-producer" not in made.instances


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("indexerConfig: {kvBlockIndexConfig: {redisConfig: {address: x}}}", "Redis"),
        ("indexerConfig: {kvBlockIndexConfig: {valkeyConfig: {address: x}}}", "Valkey"),
        ("indexerConfig: {kvBlockIndexConfig: {costAwareMemoryConfig: {size: 2Gi}}}", "in bytes"),
        ("indexerConfig: {tokenizersPoolConfig: {}}", "token-producer"),
        ("kvEventsConfig: {discoverPods: false}", "no events can come"),
        ("kvEventsConfig: {engineType: other}", "sglang"),
        ("kvEventsConfig: {zmqEndpoint: 5557}", "zmqEndpoint"),
        ("wrong: 1", "wrong"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(parameters, said):
    text = WITH_PRODUCER.split("  parameters:")[0] + f"  parameters: {{{parameters}}}\n"
    with pytest.raises(ConfigError, match=said):
        assembled(text)
