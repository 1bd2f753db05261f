"""Parameters of precise prefix matching, under the names the Go picker gives them."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from epp.config.params import PluginParams
from epp.config.units import Duration
from epp.datastore.prefix import DEFAULT_MAX_BLOCKS


def refuse(field: str, why: str) -> Any:
    """A validator that turns `field` away unless it is left out."""

    def check(value: object) -> object:
        if value is not None:
            raise ValueError(why)
        return value

    return field_validator(field)(check)


class TokenProcessor(PluginParams):
    """`hashSeed` and `hashAlgorithm` are accepted: our keys need not agree with anybody's."""

    block_size: int | None = Field(default=None, ge=1, le=65536)
    block_size_tokens: int | None = Field(default=None, ge=1, le=65536)
    hash_seed: str = ""
    hash_algorithm: Literal["", "cbor-fnv", "xxh64"] = ""


class InMemory(PluginParams):
    """`podCacheSize` is accepted: every endpoint that holds a block is known."""

    size: int = Field(default=DEFAULT_MAX_BLOCKS, ge=1)
    pod_cache_size: int | None = Field(default=None, ge=1)


class BlockIndex(PluginParams):
    in_memory_config: InMemory = InMemory()
    redis_config: Any = None
    valkey_config: Any = None
    cost_aware_memory_config: Any = None
    enable_metrics: bool = False
    metrics_logging_interval: Duration | None = None

    _redis = refuse(
        "redis_config", "an index in Redis is not offered: remove it; each picker hears the events"
    )
    _valkey = refuse(
        "valkey_config",
        "an index in Valkey is not offered: remove it; each picker hears the events",
    )
    _cost = refuse(
        "cost_aware_memory_config",
        "a bound in bytes is not offered: use inMemoryConfig.size, about 250 bytes a block",
    )


class Backend(PluginParams):
    """What a block in one kind of memory is worth, 0..1."""

    name: str = Field(min_length=1)
    weight: float = Field(ge=0.0, le=1.0)


class Indexer(PluginParams):
    kv_block_index_config: BlockIndex = BlockIndex()
    kv_cache_backend_configs: list[Backend] = Field(default_factory=list)
    tokenizers_pool_config: Any = None
    prefix_store_config: Any = None

    _pool = refuse(
        "tokenizers_pool_config", "tokens come from a token-producer: configure its vllm or local"
    )
    _store = refuse("prefix_store_config", "tokens come from a token-producer: remove it")


class PodDiscovery(PluginParams):
    """`podLabelSelector` and `podNamespace` are accepted: the pool says which pods there are."""

    socket_port: int = Field(default=5557, ge=1, le=65535)
    replay_socket_port: int | None = Field(default=None, ge=1, le=65535)
    pod_label_selector: str = ""
    pod_namespace: str = ""


class KvEvents(PluginParams):
    """`concurrency` is accepted: events are read between picks, in turn."""

    zmq_endpoint: str = Field(default="", pattern=r"^((tcp|ipc)://.+)?$")
    topic_filter: str | None = None
    concurrency: int | None = Field(default=None, ge=1)
    engine_type: Literal["vllm", "sglang"] = "vllm"
    discover_pods: bool | None = None
    pod_discovery_config: PodDiscovery = PodDiscovery()

    @property
    def connects(self) -> bool:
        """Whether every endpoint is dialled: unless told otherwise, where nothing is bound."""
        return self.discover_pods if self.discover_pods is not None else not self.zmq_endpoint

    @model_validator(mode="after")
    def _some_way(self) -> "KvEvents":
        if not (self.connects or self.zmq_endpoint):
            raise ValueError("no events can come: set discoverPods, or zmqEndpoint to listen on")
        return self


class PreciseParams(PluginParams):
    token_processor_config: TokenProcessor = TokenProcessor()
    indexer_config: Indexer = Indexer()
    kv_events_config: KvEvents = KvEvents()
    speculative_indexing: bool = True
    speculative_ttl: Duration = Field(default=2.0, alias="speculativeTTL")
    max_prefix_tokens_to_match: int = Field(default=131_072, ge=1)
    snapshot_file: str = ""

    @property
    def block_tokens(self) -> int:
        """Tokens in a block, until an engine has said."""
        given = self.token_processor_config
        return given.block_size_tokens or given.block_size or 16

    @property
    def slow_weight(self) -> float:
        """What a block outside of GPU memory is worth."""
        weights = [
            b.weight for b in self.indexer_config.kv_cache_backend_configs if b.name != "gpu"
        ]
        return min(weights, default=0.8)
