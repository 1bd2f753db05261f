"""Configurations that users of other pickers have today load, and choose."""

from collections import Counter

import pytest
from support.configurations import HEAD, OLD_HEAD, QUEUE_KV_PREFIX
from support.pools import Clock, endpoint, pool, request

from epp.assemble import assemble_text, bare_house
from epp.datastore.sample import Sample
from epp.datastore.settings import StoreSettings
from epp.datastore.store import Datastore
from epp.errors import ConfigError
from epp.plugins.catalog import CATALOGUE

PREFILL_DECODE = """
plugins:
- type: approx-prefix-cache-producer
  parameters:
    autoTune: false
    blockSizeTokens: 16
    maxPrefixTokensToMatch: 16384
    lruCapacityPerServer: 31250
- type: prefix-cache-scorer
- type: queue-scorer
- type: prefill-filter
- type: decode-filter
- type: max-score-picker
- type: prefix-based-pd-decider
  parameters: {nonCachedTokens: 16}
- type: disagg-profile-handler
  parameters: {deciders: {prefill: prefix-based-pd-decider}}
schedulingProfiles:
- name: prefill
  plugins:
  - {pluginRef: prefill-filter}
  - {pluginRef: max-score-picker}
  - {pluginRef: prefix-cache-scorer, weight: 2}
  - {pluginRef: queue-scorer, weight: 1}
- name: decode
  plugins:
  - {pluginRef: decode-filter}
  - {pluginRef: max-score-picker}
  - {pluginRef: prefix-cache-scorer, weight: 2}
  - {pluginRef: queue-scorer, weight: 1}
"""

PAYLOAD_AGNOSTIC = """
plugins:
- type: passthrough-parser
- type: active-request-scorer
- type: session-affinity-scorer
requestHandler:
  parsers: [{pluginRef: passthrough-parser}]
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: active-request-scorer, weight: 1}
  - {pluginRef: session-affinity-scorer, weight: 1}
"""

STICKY = """
plugins:
- type: prefix-cache-affinity-filter
- type: token-load-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: prefix-cache-affinity-filter}
  - {pluginRef: token-load-scorer}
  - {pluginRef: max-score-picker}
"""

CONFORMANCE = """
plugins:
- type: header-based-testing-filter
- type: destination-endpoint-served-verifier
- type: max-score-picker
schedulingProfiles:
- name: conformance-profile
  plugins: [{pluginRef: header-based-testing-filter}, {pluginRef: max-score-picker}]
"""

PREDICTED_LATENCY = """
plugins:
- type: predicted-latency-producer
  parameters: {streamingMode: true, sloBufferFactor: 1, contextTTL: 5m, predictInProduce: true}
- type: prefix-cache-affinity-filter
  parameters:
    affinityThreshold: 0.8
    explorationProbability: 0
    maxTTFTPenaltyMs: 5000
    ttftSource: latencyPredictor
- type: slo-headroom-tier-filter
  parameters: {epsilonExploreNeg: 0}
- type: latency-scorer
  parameters: {ttftWeight: 0.8, tpotWeight: 0.2, headroomSelectionStrategy: least}
- type: latency-slo-admitter
- type: weighted-random-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: prefix-cache-affinity-filter}
  - {pluginRef: slo-headroom-tier-filter}
  - {pluginRef: latency-scorer, weight: 1}
  - {pluginRef: weighted-random-picker}
"""

LATENCY_SCORER_ALONE = """
plugins:
- type: latency-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins: [{pluginRef: latency-scorer}, {pluginRef: max-score-picker}]
"""

KNOWN = [
    pytest.param(None, id="built-in"),
    pytest.param(HEAD + QUEUE_KV_PREFIX, id="queue-kv-prefix"),
    pytest.param(OLD_HEAD + QUEUE_KV_PREFIX, id="queue-kv-prefix-older-version"),
    pytest.param(HEAD + PREFILL_DECODE, id="prefill-decode"),
    pytest.param(HEAD + PAYLOAD_AGNOSTIC, id="payload-agnostic"),
    pytest.param(HEAD + STICKY, id="sticky-until-saturated"),
    pytest.param(HEAD + LATENCY_SCORER_ALONE, id="latency-scorer-alone"),
]


def assembled(text):
    return assemble_text(text, "here.yaml", CATALOGUE, bare_house(seed=1))


def placed(assembly, asked, view):
    """One decision, as the request path takes it."""
    policy = assembly.policy
    for producer in policy.pool_producers:
        view = view.having(producer.columns(asked, view))
    decision = policy.scheduler.schedule(asked, view)
    changes = [o.picked(asked, view, decision) for o in policy.pick_observers]
    return decision, {n: v for c in changes if c for n, v in c.set.items()}


@pytest.mark.parametrize("text", KNOWN)
def test_it_loads_and_prefers_the_idle_endpoint(text):
    view = pool(waiting=[9, 0, 9], running=[9, 0, 9], inflight_requests=[9, 0, 9])
    view = view.having({"inflight_tokens": view.inflight_requests * 1000})

    decision, _ = placed(assembled(text), request(range(100)), view)

    assert decision.endpoint.name == "pod-1"


@pytest.mark.parametrize("text", KNOWN[:4])
def test_the_second_request_follows_the_first_ones_cache(text):
    assembly, view = assembled(text), pool(8)
    first, _ = placed(assembly, request(range(640)), view)
    second, _ = placed(assembly, request(range(640)), view)

    assert second.endpoint == first.endpoint


def test_prefill_runs_elsewhere_until_decode_has_the_prompt():
    roles = ["prefill", "decode", "decode"]
    view = pool(
        endpoints=[endpoint(n, labels={"llm-d.ai/role": role}) for n, role in enumerate(roles)]
    )
    assembly = assembled(HEAD + PREFILL_DECODE)

    first, cold = placed(assembly, request(range(640)), view)
    _, warm = placed(assembly, request(range(640)), view)

    assert first.endpoint.name in {"pod-1", "pod-2"}
    assert cold == {"x-prefiller-host-port": "10.0.0.0:8000"}
    assert warm == {}


def test_conformance_tests_choose_by_header():
    asked = request(headers={"test-epp-endpoint-selection": "10.0.0.2"})

    decision, _ = placed(assembled(HEAD + CONFORMANCE), asked, pool(4))

    assert decision.destination == "10.0.0.2:8000"


class Picker:
    """The built-in policy over a real datastore, with time that stands still unless moved."""

    def __init__(self, size=8):
        self.clock = Clock()
        self.store = Datastore(self.clock, self.clock, StoreSettings())
        self.store.set_endpoints("file", [endpoint(n, ready_since=0.0) for n in range(size)])
        self.policy = assembled(None)
        self.scrape()

    def scrape(self, **sample):
        for each in self.store.endpoints:
            self.store.scraped(each.key, self.clock(), Sample(**sample))

    def send(self, number, tokens, *, drain=False):
        asked = request([number] * tokens, id=f"r{number}")
        chosen, _ = placed(self.policy, asked, self.store.view())
        self.store.reserve(chosen.endpoint, tokens=tokens, request_id=asked.id, drain=drain)
        return chosen.endpoint.name


@pytest.mark.parametrize("drain", [False, True], ids=["full", "watch"])
@pytest.mark.parametrize("tokens", [50, 800, 20_000])
def test_a_burst_within_one_scrape_interval_does_not_herd(tokens, drain):
    picker = Picker()
    counts = Counter(picker.send(number, tokens, drain=drain) for number in range(64))

    assert set(counts.values()) == {8}


def test_a_burst_of_unlike_prompts_evens_out_the_tokens():
    picker, tokens = Picker(), Counter()
    for number in range(160):
        size = 4000 if number % 4 else 12_000
        tokens[picker.send(number, size)] += size

    assert max(tokens.values()) - min(tokens.values()) <= 12_000


def test_a_burst_while_all_metrics_are_old_spreads_by_what_we_sent():
    picker = Picker()
    picker.clock.now += 3600
    assert not picker.store.view().fresh.any()

    counts = Counter(picker.send(number, 800) for number in range(64))

    assert set(counts.values()) == {8}


@pytest.mark.parametrize("old", sorted(CATALOGUE.aliases))
def test_an_old_name_is_accepted_with_a_warning(old):
    text = HEAD + f"plugins:\n- type: {old}\n- type: max-score-picker\n"

    assert any(old in warning for warning in assembled(text).policy.warnings)


@pytest.mark.parametrize("refused", sorted(CATALOGUE.refusals))
def test_what_is_left_out_is_refused_with_the_reason(refused):
    with pytest.raises(ConfigError) as fault:
        assembled(HEAD + f"plugins:\n- type: {refused}\n")

    assert CATALOGUE.refusals[refused].reason in str(fault.value)


def test_predicted_latency_loads_with_all_that_reads_it():
    policy = assembled(HEAD + PREDICTED_LATENCY).policy

    assert len(policy.admitters) == 1
    assert policy.blind["full"] == ()
    assert "predicted-latency-producer" in policy.blind["watch"]


def test_a_latency_scorer_brings_its_producers_along():
    names = [one.name for one in assembled(HEAD + LATENCY_SCORER_ALONE).plan.producers]

    assert names.index("approx-prefix-cache-producer") < names.index("predicted-latency-producer")
