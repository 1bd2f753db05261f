"""Every configuration the Go picker's documentation shows loads, and does what it says."""

import pytest
from support.pools import endpoint, pool, request, tools

from epp.assemble import assemble_text, bare_house
from epp.plugins.catalog import CATALOGUE
from epp.plugins.eviction.rule import (
    PriorityThenTimeEvictionOrderPolicy,
    SheddableEvictionFilter,
)
from epp.plugins.facts import verdict
from epp.plugins.profiles.pd import PdProfileHandler
from epp.plugins.sources.idle import (
    EndpointNotificationSource,
    K8sNotificationSource,
    ModelsDataExtractor,
    ModelsDataSource,
)

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"

PRECISE = """
plugins:
- type: token-producer
  parameters: {modelName: Qwen/Qwen3-32B, vllm: {url: "http://localhost:8000", timeout: 5s}}
- type: endpoint-notification-source
- type: precise-prefix-cache-producer
  parameters:
    tokenProcessorConfig: {blockSizeTokens: 64, hashSeed: "42", hashAlgorithm: xxh64}
    indexerConfig:
      kvBlockIndexConfig: {inMemoryConfig: {size: 1000000, podCacheSize: 10}, enableMetrics: true}
      kvCacheBackendConfigs: [{name: gpu, weight: 1.0}, {name: cpu, weight: 0.8}]
    kvEventsConfig:
      topicFilter: "kv@"
      concurrency: 4
      engineType: vllm
      discoverPods: true
      podDiscoveryConfig:
        socketPort: 5557
        replaySocketPort: 5558
        podLabelSelector: llm-d.ai/inference-serving=true
        podNamespace: default
    speculativeIndexing: true
    speculativeTTL: 2s
- type: prefix-cache-scorer
  parameters: {prefixMatchInfoProducerName: precise-prefix-cache-producer}
- type: queue-scorer
- type: max-score-picker
dataLayer:
  sources:
  - pluginRef: endpoint-notification-source
    extractors: [{pluginRef: precise-prefix-cache-producer}]
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: prefix-cache-scorer, weight: 3}
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: max-score-picker}
"""

FLOW_CONTROL = """
featureGates: [flowControl]
plugins:
- {type: round-robin-fairness-policy}
- {type: slo-deadline-ordering-policy}
- {type: concurrency-detector, parameters: {maxConcurrency: 64, concurrencyMode: requests}}
- {type: priority-holdback-policy, parameters: {minCeiling: 0.6}}
flowControl:
  maxRequests: "20k"
  maxBytes: 4Gi
  defaultRequestTTL: 30s
  noEndpointRequestTTL: 5m
  saturationDetector: {pluginRef: concurrency-detector}
  usageLimitPolicyPluginRef: priority-holdback-policy
  priorityBands:
  - priority: 10
    maxRequests: "2000"
    fairnessPolicyRef: round-robin-fairness-policy
    orderingPolicyRef: slo-deadline-ordering-policy
  - {priority: -1, maxRequests: "200"}
  enableEviction: false
"""

FILE_DISCOVERY = """
plugins:
- {name: eps, type: file-discovery, parameters: {path: /etc/epp/endpoints.yaml, watchFile: true}}
dataLayer: {discovery: {pluginRef: eps}}
"""

ROLES_OF_OLD = """
plugins:
- type: prefill-header-handler
- type: prefill-filter
- type: decode-filter
- type: max-score-picker
- type: queue-scorer
- type: prefix-cache-scorer
- type: pd-profile-handler
  parameters: {threshold: 400, hashBlockSize: 5}
schedulingProfiles:
- name: prefill
  plugins:
  - {pluginRef: prefill-filter}
  - {pluginRef: queue-scorer, weight: 1.0}
  - {pluginRef: max-score-picker}
- name: decode
  plugins:
  - {pluginRef: decode-filter}
  - {pluginRef: queue-scorer, weight: 1.0}
  - {pluginRef: max-score-picker}
"""

AGENTS = """
plugins:
- type: agent-identity
  parameters: {additionalSessionHeaders: [x-my-session]}
- type: disaggregatedset-rollout-screener
  parameters:
    scope: {labelSelector: {matchLabels: {app: llm}}}
    headerSelectors: [{name: canary, headerName: x-canary, labelKey: canary, mode: prefer}]
    revisionGating: {mode: max-role, requireRoles: {values: [prefill, decode]}}
- type: mm-embeddings-cache-scorer
- type: queue-scorer
"""

OTHER_SOURCES = """
plugins:
- type: models-data-source
  parameters: {scheme: http, path: /v1/models, interval: 1s}
- type: models-data-extractor
- type: k8s-notification-source
  parameters: {group: "", version: v1, kind: ConfigMap}
- type: topology-extractor
- type: metrics-data-source
- type: core-metrics-extractor
- type: queue-scorer
dataLayer:
  sources:
  - pluginRef: models-data-source
    extractors: [{pluginRef: models-data-extractor}]
  - pluginRef: k8s-notification-source
    extractors: [{pluginRef: topology-extractor}]
  - pluginRef: metrics-data-source
    extractors: [{pluginRef: core-metrics-extractor}]
"""

GRPC = """
plugins:
- type: vllmgrpc-parser
- type: vertexai-parser
- type: queue-scorer
requestHandler:
  parsers: [{pluginRef: vllmgrpc-parser}, {pluginRef: vertexai-parser}]
"""

DATA_PARALLEL = """
plugins:
- type: data-parallel-profile-handler
  parameters: {primaryPort: 8000}
- type: queue-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins: [{pluginRef: queue-scorer}, {pluginRef: max-score-picker}]
"""

REPORTER = """
plugins:
- type: openai-parser
- name: total-tokens-cost-reporter
  type: request-attribute-reporter
  parameters:
    attributes:
    - key: {namespace: envoy.lb, name: x-gateway-inference-request-cost}
      expression: |
        usage.completion_tokens
      condition: "has(usage.completion_tokens)"
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: openai-parser
  - pluginRef: total-tokens-cost-reporter
parser: {pluginRef: openai-parser}
"""

PREDICTED_OF_OLD = """
plugins:
- type: queue-scorer
- type: predicted-latency-scorer
  parameters:
    samplingMean: 1000.0
    maxSampledTokens: 20
    sloBufferFactor: 1
    negHeadroomTTFTWeight: 0.8
    negHeadroomTPOTWeight: 0.2
    headroomTTFTWeight: 0.8
    headroomTPOTWeight: 0.2
    headroomSelectionStrategy: least
    compositeKVWeight: 1
    compositeQueueWeight: 1
    compositePrefixWeight: 1
    epsilonExploreSticky: 0.01
    epsilonExploreNeg: 0.01
    affinityGateTau: 0.8
    affinityGateTauGlobal: 0.99
    contextTTL: 5m
    selectionMode: linear
    streamingMode: false
    endpointRoleLabel: llm-d.ai/role
- type: slo-headroom-tier-filter
- type: weighted-random-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: slo-headroom-tier-filter
  - pluginRef: predicted-latency-scorer
  - pluginRef: weighted-random-picker
"""

EVICTION = """
featureGates: [flowControl]
plugins:
- type: sheddable-eviction-filter
- type: priority-then-time-eviction-order-policy
- type: utilization-detector
  parameters: {headroom: 0.2}
- type: queue-scorer
flowControl:
  enableEviction: true
  saturationDetector: {pluginRef: utilization-detector}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: utilization-detector}, {pluginRef: queue-scorer, weight: 1}]
"""

SHAPES = {
    "precise-prefix": PRECISE,
    "flow-control": FLOW_CONTROL,
    "file-discovery": FILE_DISCOVERY,
    "older-roles": ROLES_OF_OLD,
    "older-roles-of-ranks": ROLES_OF_OLD.replace("hashBlockSize: 5", "primaryPort: 8000"),
    "data-parallel": DATA_PARALLEL,
    "reporter": REPORTER,
    "predicted-latency-of-old": PREDICTED_OF_OLD,
    "eviction": EVICTION,
    "agents-and-rollouts": AGENTS,
    "other-sources": OTHER_SOURCES,
    "grpc-parsers": GRPC,
}


def assembled(text):
    return assemble_text(HEAD + text, "here.yaml", CATALOGUE, bare_house(seed=1))


@pytest.mark.parametrize("shape", SHAPES)
def test_it_loads(shape):
    assert assembled(SHAPES[shape]).policy.scheduler


def test_exact_matches_are_followed_though_a_source_would_tell_of_endpoints():
    policy = assembled(PRECISE).policy

    assert [w for w in policy.warnings if "endpoint-notification-source does nothing" in w]
    assert "precise-prefix-cache-producer" in str(assembled(PRECISE).plan.producers)


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ("older-roles", "pd-profile-handler is deprecated"),
        ("predicted-latency-of-old", "predicted-latency-scorer is deprecated"),
        ("eviction", "sheddable-eviction-filter does nothing here"),
        ("eviction", "priority-then-time-eviction-order-policy does nothing here"),
        ("data-parallel", "data-parallel-profile-handler is deprecated"),
        ("older-roles", "prefill-header-handler is a deprecated name"),
        ("other-sources", "models-data-source does nothing here"),
        ("other-sources", "k8s-notification-source does nothing here"),
    ],
)
def test_what_is_old_or_idle_is_said_once(shape, named):
    warnings = assembled(SHAPES[shape]).policy.warnings

    assert len([warning for warning in warnings if named in warning]) == 1


@pytest.mark.parametrize(
    "idle",
    [
        EndpointNotificationSource,
        K8sNotificationSource,
        ModelsDataSource,
        ModelsDataExtractor,
        SheddableEvictionFilter,
        PriorityThenTimeEvictionOrderPolicy,
    ],
    ids=lambda idle: idle.type,
)
def test_what_does_nothing_takes_part_in_nothing_a_request_meets(idle):
    needed = "{version: v1, kind: Pod}" if idle is K8sNotificationSource else "{}"
    policy = assembled(f"plugins:\n- {{type: {idle.type}, parameters: {needed}}}\n").policy

    assert [warning for warning in policy.warnings if idle.idle in warning]
    assert not policy.screeners
    assert not policy.admitters


@pytest.mark.parametrize(
    ("parameters", "tokens"), [({}, 0), ({"threshold": 400}, 100), ({"threshold": 1}, 1)]
)
def test_an_older_threshold_counts_bytes_of_text(parameters, tokens):
    handler = PdProfileHandler(PdProfileHandler.Params.model_validate(parameters), tools())
    asked, view = request(range(tokens)), pool(1)
    handler.columns(asked, view)

    assert verdict(asked, "it", view.endpoints[0])
    if tokens:
        short = request(range(tokens - 1))
        handler.columns(short, view)
        assert not verdict(short, "it", view.endpoints[0])


def test_other_sources_leave_the_metrics_alone():
    sources = [one.source.type for one in assembled(OTHER_SOURCES).plan.sources]

    assert sources.count("metrics-data-source") == 1


@pytest.mark.parametrize(("tokens", "headers"), [(99, 0), (100, 1), (640, 1)])
def test_the_older_handler_prefills_elsewhere_from_its_threshold_on(tokens, headers):
    roles = ["prefill", "decode"]
    view = pool(
        endpoints=[endpoint(n, labels={"llm-d.ai/role": role}) for n, role in enumerate(roles)]
    )
    policy, asked = assembled(ROLES_OF_OLD).policy, request(range(tokens))
    for producer in policy.pool_producers:
        view = view.having(producer.columns(asked, view))
    decision = policy.scheduler.schedule(asked, view)
    set_by = [observer.picked(asked, view, decision) for observer in policy.pick_observers]
    prefillers = {c.set["x-prefiller-host-port"] for c in set_by if c and c.set}

    assert decision.endpoint.name == "pod-1"
    assert len(prefillers) == headers


@pytest.mark.parametrize("shape", ["predicted-latency-of-old", "data-parallel", "eviction"])
def test_nothing_is_warned_of_twice(shape):
    warnings = assembled(SHAPES[shape]).policy.warnings
    types = [warning.split(": ", 2)[2].split()[0] for warning in warnings]

    assert len(types) == len(set(types))


def test_what_takes_part_by_being_configured_is_not_warned_of():
    assert assembled(AGENTS).policy.warnings == ()


def test_predictions_of_the_older_plugin_serve_everybody():
    producers = [one.type for one in assembled(PREDICTED_OF_OLD).plan.producers]

    assert "predicted-latency-scorer" in producers
    assert "predicted-latency-producer" not in producers


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        pytest.param(EVICTION, ["utilization-detector"], id="named"),
        pytest.param(EVICTION.partition("schedulingProfiles")[0], [], id="not-named"),
    ],
)
def test_a_detector_filters_only_where_a_profile_names_it(text, filters):
    (profile,) = assembled(text).plan.profiles

    assert [one.name for one in profile.filters] == filters
