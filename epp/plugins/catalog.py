"""Which plugin types there are: a value to read, in the order of the extension points.

`CATALOGUE` is what a configuration may name. Old names are in `ALIASES`, and what other pickers
have and this one leaves out is in `REFUSALS`, each with the reason and what to use instead.
"""

from typing import Any, Final

from epp.config.catalogue import Catalogue, Refusal
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL
from epp.plugins.filters.header_based_testing import HeaderBasedTestingFilter
from epp.plugins.filters.label_selector import ByLabelFilter, LabelSelectorFilter
from epp.plugins.filters.roles import DecodeFilter, EncodeFilter, PrefillFilter
from epp.plugins.filters.session_affinity import SessionAffinityFilter
from epp.plugins.parsers.anthropic import AnthropicParser
from epp.plugins.parsers.openai import OpenAIParser
from epp.plugins.parsers.passthrough import PassthroughParser
from epp.plugins.parsers.sglanghttp import SGLangHttpParser
from epp.plugins.parsers.vllmhttp import VllmHttpParser
from epp.plugins.pickers.max_score import MaxScorePicker
from epp.plugins.pickers.random_choice import RandomPicker
from epp.plugins.pickers.weighted_random import WeightedRandomPicker
from epp.plugins.producers.approx_prefix import ApproxPrefixCacheProducer
from epp.plugins.producers.inflight_load import InflightLoadProducer
from epp.plugins.producers.tokens import TokenProducer
from epp.plugins.profiles.single import SingleProfileHandler
from epp.plugins.response.served_verifier import DestinationEndpointServedVerifier
from epp.plugins.scorers.active_request import ActiveRequestScorer
from epp.plugins.scorers.expected_work import ExpectedWorkScorer
from epp.plugins.scorers.kv_cache import KvCacheUtilizationScorer
from epp.plugins.scorers.load_aware import LoadAwareScorer
from epp.plugins.scorers.lora_affinity import LoraAffinityScorer
from epp.plugins.scorers.prefix_cache import PrefixCacheScorer
from epp.plugins.scorers.queue import QueueScorer
from epp.plugins.scorers.running import RunningRequestsSizeScorer
from epp.plugins.scorers.session_affinity import SessionAffinityScorer
from epp.plugins.scorers.token_load import TokenLoadScorer
from epp.plugins.sources.metrics import CoreMetricsExtractor, MetricsDataSource

PLUGINS: Final[tuple[type[Any], ...]] = (
    OpenAIParser,
    AnthropicParser,
    VllmHttpParser,
    SGLangHttpParser,
    PassthroughParser,
    MetricsDataSource,
    CoreMetricsExtractor,
    TokenProducer,
    ApproxPrefixCacheProducer,
    InflightLoadProducer,
    SingleProfileHandler,
    LabelSelectorFilter,
    ByLabelFilter,
    DecodeFilter,
    PrefillFilter,
    EncodeFilter,
    SessionAffinityFilter,
    HeaderBasedTestingFilter,
    ExpectedWorkScorer,
    QueueScorer,
    KvCacheUtilizationScorer,
    RunningRequestsSizeScorer,
    LoadAwareScorer,
    ActiveRequestScorer,
    TokenLoadScorer,
    LoraAffinityScorer,
    PrefixCacheScorer,
    SessionAffinityScorer,
    MaxScorePicker,
    RandomPicker,
    WeightedRandomPicker,
    DestinationEndpointServedVerifier,
)

ALIASES: Final = {
    "by-label-selector": "label-selector-filter",
    "tokenizer": "token-producer",
}

DEFAULT_PRODUCERS: Final = {
    PREFIX_TOKENS: "approx-prefix-cache-producer",
    PREFIX_TOTAL: "approx-prefix-cache-producer",
}

REFUSALS: Final = (
    Refusal(
        "multicluster-prefix-cache-scorer",
        "other clusters are not scheduled to",
        "use prefix-cache-scorer in each cluster",
    ),
)

CATALOGUE: Final = Catalogue.of(
    PLUGINS, aliases=ALIASES, refusals=REFUSALS, default_producers=DEFAULT_PRODUCERS
)
