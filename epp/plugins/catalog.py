"""Which plugin types there are: a value to read, in the order of the extension points.

`CATALOGUE` is what a configuration may name. Old names are in `ALIASES`, and what other pickers
have and this one leaves out is in `REFUSALS`, each with the reason and what to use instead.
"""

from typing import Any, Final

from epp.config.catalogue import Catalogue, Kind, Refusal
from epp.plugins.admitters.latency_slo import LatencySloAdmitter
from epp.plugins.admitters.probabilistic import ProbabilisticAdmitter
from epp.plugins.columns import (
    MM_CACHED,
    MM_TOTAL,
    PREDICTED_TPOT,
    PREDICTED_TTFT,
    PREFIX_TOKENS,
    PREFIX_TOTAL,
    TPOT_HEADROOM,
    TTFT_HEADROOM,
)
from epp.plugins.deciders.always import AlwaysDisaggMultimodalDecider, AlwaysDisaggPdDecider
from epp.plugins.deciders.prefix_based import PrefixBasedPdDecider
from epp.plugins.eviction.rule import (
    PriorityThenTimeEvictionOrderPolicy,
    SheddableEvictionFilter,
)
from epp.plugins.facts import SESSION_ID, VERDICTS
from epp.plugins.fairness.deficit import DeficitRoundRobinFairnessPolicy
from epp.plugins.fairness.program_aware import ProgramAwareFairness
from epp.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from epp.plugins.fairness.strict import GlobalStrictFairnessPolicy
from epp.plugins.filters.endpoint_attribute import EndpointAttributeFilter
from epp.plugins.filters.header_based_testing import HeaderBasedTestingFilter
from epp.plugins.filters.label_selector import ByLabelFilter, LabelSelectorFilter
from epp.plugins.filters.prefix_cache_affinity import PrefixCacheAffinityFilter
from epp.plugins.filters.roles import DecodeFilter, EncodeFilter, PrefillFilter
from epp.plugins.filters.session_affinity import SessionAffinityFilter
from epp.plugins.filters.slo_headroom import SloHeadroomTierFilter
from epp.plugins.filters.topology_affinity import TopologyAffinityFilter
from epp.plugins.filters.utilization import UtilizationFilter
from epp.plugins.identity.agent import AgentIdentity
from epp.plugins.ordering.edf import EdfOrderingPolicy
from epp.plugins.ordering.fcfs import FcfsOrderingPolicy
from epp.plugins.ordering.slo_deadline import SloDeadlineOrderingPolicy
from epp.plugins.ordering.workload import WorkloadOrderingPolicy
from epp.plugins.parsers.anthropic import AnthropicParser
from epp.plugins.parsers.openai import OpenAIParser
from epp.plugins.parsers.passthrough import PassthroughParser
from epp.plugins.parsers.sglanghttp import SGLangHttpParser
from epp.plugins.parsers.vertexai import VertexAIParser
from epp.plugins.parsers.vllmgrpc import VllmGrpcParser
from epp.plugins.parsers.vllmhttp import VllmHttpParser
from epp.plugins.pickers.max_score import MaxScorePicker
from epp.plugins.pickers.random_choice import RandomPicker
from epp.plugins.pickers.weighted_random import WeightedRandomPicker
from epp.plugins.producers.approx_prefix import ApproxPrefixCacheProducer
from epp.plugins.producers.burst import BurstPrefixCacheProducer
from epp.plugins.producers.inflight_load import InflightLoadProducer
from epp.plugins.producers.mm_embeddings import MmEmbeddingsCacheProducer
from epp.plugins.producers.p2p_source import P2pSourceProducer
from epp.plugins.producers.precise_prefix import (
    PrecisePrefixCacheProducer,
    PrecisePrefixCacheScorer,
)
from epp.plugins.producers.predicted_latency import PredictedLatencyProducer
from epp.plugins.producers.session_id import SessionIdProducer
from epp.plugins.producers.tokens import TokenProducer
from epp.plugins.profiles.by_header import HeaderProfileHandler
from epp.plugins.profiles.data_parallel import DataParallelProfileHandler
from epp.plugins.profiles.disagg import DisaggHeadersHandler, DisaggProfileHandler
from epp.plugins.profiles.pd import PdProfileHandler
from epp.plugins.profiles.single import SingleProfileHandler
from epp.plugins.reporters.request_attribute import RequestAttributeReporter
from epp.plugins.response.served_verifier import DestinationEndpointServedVerifier
from epp.plugins.saturation.concurrency import ConcurrencyDetector
from epp.plugins.saturation.learned import LearnedLimitDetector
from epp.plugins.saturation.utilization import UtilizationDetector
from epp.plugins.scorers.active_request import ActiveRequestScorer
from epp.plugins.scorers.context_length import ContextLengthAware
from epp.plugins.scorers.endpoint_attribute import EndpointAttributeScorer
from epp.plugins.scorers.expected_work import ExpectedWorkScorer
from epp.plugins.scorers.header_label_affinity import HeaderLabelAffinityScorer
from epp.plugins.scorers.kv_cache import KvCacheUtilizationScorer
from epp.plugins.scorers.latency import LatencyScorer
from epp.plugins.scorers.load_aware import LoadAwareScorer
from epp.plugins.scorers.lora_affinity import LoraAffinityScorer
from epp.plugins.scorers.mm_embeddings import MmEmbeddingsCacheScorer
from epp.plugins.scorers.no_hit_lru import NoHitLruScorer
from epp.plugins.scorers.predicted_latency import PredictedLatencyScorer
from epp.plugins.scorers.prefix_cache import PrefixCacheScorer
from epp.plugins.scorers.queue import QueueScorer
from epp.plugins.scorers.running import RunningRequestsSizeScorer
from epp.plugins.scorers.session_affinity import SessionAffinityScorer
from epp.plugins.scorers.token_load import TokenLoadScorer
from epp.plugins.scorers.topology_affinity import TopologyAffinityScorer
from epp.plugins.screeners.rollout import RolloutScreener
from epp.plugins.sources.discovery import FileDiscoveryPlugin
from epp.plugins.sources.idle import (
    EndpointNotificationSource,
    K8sNotificationSource,
    ModelsDataExtractor,
    ModelsDataSource,
)
from epp.plugins.sources.metrics import (
    CoreMetricsExtractor,
    MetricsDataSource,
    TopologyExtractor,
)
from epp.plugins.usage_limits.holdback import PriorityHoldbackPolicy
from epp.plugins.usage_limits.reflective import SoftReflectiveCeilingPolicy
from epp.plugins.usage_limits.static import StaticUsageLimitPolicy

PLUGINS: Final[tuple[type[Any], ...]] = (
    OpenAIParser,
    AnthropicParser,
    VllmHttpParser,
    SGLangHttpParser,
    VllmGrpcParser,
    VertexAIParser,
    PassthroughParser,
    AgentIdentity,
    FileDiscoveryPlugin,
    MetricsDataSource,
    CoreMetricsExtractor,
    TopologyExtractor,
    EndpointNotificationSource,
    K8sNotificationSource,
    ModelsDataSource,
    ModelsDataExtractor,
    TokenProducer,
    SessionIdProducer,
    ApproxPrefixCacheProducer,
    PrecisePrefixCacheProducer,
    BurstPrefixCacheProducer,
    InflightLoadProducer,
    P2pSourceProducer,
    MmEmbeddingsCacheProducer,
    PredictedLatencyProducer,
    PrefixBasedPdDecider,
    AlwaysDisaggPdDecider,
    AlwaysDisaggMultimodalDecider,
    UtilizationDetector,
    ConcurrencyDetector,
    LearnedLimitDetector,
    FcfsOrderingPolicy,
    EdfOrderingPolicy,
    SloDeadlineOrderingPolicy,
    WorkloadOrderingPolicy,
    GlobalStrictFairnessPolicy,
    RoundRobinFairnessPolicy,
    DeficitRoundRobinFairnessPolicy,
    ProgramAwareFairness,
    StaticUsageLimitPolicy,
    PriorityHoldbackPolicy,
    SoftReflectiveCeilingPolicy,
    SheddableEvictionFilter,
    PriorityThenTimeEvictionOrderPolicy,
    ProbabilisticAdmitter,
    LatencySloAdmitter,
    SingleProfileHandler,
    HeaderProfileHandler,
    DisaggProfileHandler,
    PdProfileHandler,
    DataParallelProfileHandler,
    RolloutScreener,
    LabelSelectorFilter,
    ByLabelFilter,
    DecodeFilter,
    PrefillFilter,
    EncodeFilter,
    SessionAffinityFilter,
    PrefixCacheAffinityFilter,
    SloHeadroomTierFilter,
    UtilizationFilter,
    EndpointAttributeFilter,
    TopologyAffinityFilter,
    ContextLengthAware,
    HeaderBasedTestingFilter,
    ExpectedWorkScorer,
    QueueScorer,
    KvCacheUtilizationScorer,
    RunningRequestsSizeScorer,
    LoadAwareScorer,
    ActiveRequestScorer,
    TokenLoadScorer,
    LatencyScorer,
    PredictedLatencyScorer,
    LoraAffinityScorer,
    PrefixCacheScorer,
    PrecisePrefixCacheScorer,
    NoHitLruScorer,
    MmEmbeddingsCacheScorer,
    SessionAffinityScorer,
    HeaderLabelAffinityScorer,
    EndpointAttributeScorer,
    TopologyAffinityScorer,
    MaxScorePicker,
    RandomPicker,
    WeightedRandomPicker,
    DisaggHeadersHandler,
    DestinationEndpointServedVerifier,
    RequestAttributeReporter,
)

ALIASES: Final = {
    "by-label-selector": "label-selector-filter",
    "tokenizer": "token-producer",
    "prefill-header-handler": "disagg-headers-handler",
}

DEFAULT_PRODUCERS: Final = {
    MM_CACHED: "mm-embeddings-cache-producer",
    MM_TOTAL: "mm-embeddings-cache-producer",
    PREFIX_TOKENS: "approx-prefix-cache-producer",
    PREFIX_TOTAL: "approx-prefix-cache-producer",
    PREDICTED_TTFT: "predicted-latency-producer",
    PREDICTED_TPOT: "predicted-latency-producer",
}

_MATCHES: Final = Kind("matches of cached prefixes")
_MEDIA: Final = Kind("matches of encoded media")
_LATENCIES: Final = Kind("predictions of latency")

KINDS: Final = {
    PREFIX_TOKENS: _MATCHES,
    PREFIX_TOTAL: _MATCHES,
    MM_CACHED: _MEDIA,
    MM_TOTAL: _MEDIA,
    PREDICTED_TTFT: _LATENCIES,
    PREDICTED_TPOT: _LATENCIES,
    TTFT_HEADROOM: _LATENCIES,
    TPOT_HEADROOM: _LATENCIES,
    VERDICTS.name: Kind("verdicts on where a stage runs"),
    SESSION_ID.name: Kind("session ids", fact=True),
}

NOT_TAKEN: Final = (
    Refusal(
        "token-producer: udsTokenizerConfig",
        "no tokenizer is asked over a Unix socket",
        "use `vllm`, which asks an engine, or `local`, a tokenizer's file",
    ),
    Refusal(
        "predicted-latency-producer: names with url or server",
        "latencies are predicted in this process, no side-car is asked",
        "remove it",
    ),
)
"""Parameters of offered types that are refused; their classes say so to whoever writes them."""

NO_OTHER_CLUSTERS: Final = "endpoints of other clusters are not scheduled to"
PER_CLUSTER: Final = "run a picker in each cluster"

REFUSALS: Final = (
    Refusal("multicluster-prefix-cache-scorer", NO_OTHER_CLUSTERS, PER_CLUSTER),
    Refusal("multicluster-queue-scorer", NO_OTHER_CLUSTERS, PER_CLUSTER),
    Refusal("multicluster-kv-cache-utilization-scorer", NO_OTHER_CLUSTERS, PER_CLUSTER),
    Refusal("multicluster-session-affinity-filter", NO_OTHER_CLUSTERS, PER_CLUSTER),
    Refusal("multicluster-approx-prefix-cache-producer", NO_OTHER_CLUSTERS, PER_CLUSTER),
    Refusal("multicluster-metrics-data-source", NO_OTHER_CLUSTERS, PER_CLUSTER),
    Refusal("multicluster-metrics-extractor", NO_OTHER_CLUSTERS, PER_CLUSTER),
    Refusal("multicluster-file-discovery", NO_OTHER_CLUSTERS, "use file-discovery in each cluster"),
    Refusal(
        "dcgm-data-source",
        "GPU counters of nodes are not scraped",
        "use core-metrics-extractor with customMetrics and endpoint-attribute-scorer",
    ),
    Refusal(
        "dcgm-extractor",
        "GPU counters of nodes are not scraped",
        "use core-metrics-extractor with customMetrics and endpoint-attribute-scorer",
    ),
    Refusal("local-syncer", "it is a stand-in for tests where it comes from", "remove it"),
)

CATALOGUE: Final = Catalogue.of(
    PLUGINS,
    aliases=ALIASES,
    refusals=REFUSALS,
    default_producers=DEFAULT_PRODUCERS,
    kinds=KINDS,
)
