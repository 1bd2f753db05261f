"""Every setting of a simulator process, as the command line gives it. Durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vllm_sim.engine import EngineConfig, Pacing, profile_named
from vllm_sim.metrics.dialect import NEWEST, Version
from vllm_sim.metrics.fake import FakeMetrics
from vllm_sim.text.answers import AnswerSource

GO_MAX_NUM_SEQS = 5
GO_BLOCKS = 1024
GO_MAX_MODEL_LEN = 1024
GO_MAX_WAITING = 1000
MAX_MODEL_LEN = 131_072


@dataclass(frozen=True, slots=True)
class LoraModule:
    """One adapter and where its weights would lie."""

    name: str
    path: str = ""
    base_model_name: str = ""


@dataclass(frozen=True, slots=True)
class EventOptions:
    """KV events; endpoint "" publishes none. `bind` None: decided as vLLM does, by the `*`."""

    endpoint: str = ""
    bind: bool | None = None
    topic: str = ""
    replay_endpoint: str = ""
    buffer_steps: int = 10_000
    map_form: bool | None = None
    int_hashes: bool = True


@dataclass(frozen=True, slots=True)
class ToolLaw:
    """What the arguments of a tool call may be: ranges of integers, numbers and array lengths, and
    the per cent of optional parameters, and of fields in objects, that are given."""

    integers: tuple[int, int] = (0, 100)
    numbers: tuple[float, float] = (0.0, 100.0)
    lengths: tuple[int, int] = (1, 5)
    parameters: int = 100
    fields: int = 100


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Files of a certificate and its key, or a certificate of its own; neither: no TLS."""

    certificate: str = ""
    key: str = ""
    self_signed: bool = False

    @property
    def secure(self) -> bool:
        return self.self_signed or bool(self.certificate)


@dataclass(frozen=True, slots=True)
class Doors:
    """Which doors are open that vLLM opens on request only: those of its dev mode, among them
    those of sleep, and the loading of adapters."""

    dev: bool = True
    sleep: bool = True
    loras: bool = True


@dataclass(frozen=True, slots=True)
class SimOptions:
    """What `vllm-sim` was asked for; None where the default depends on the timing model."""

    model: str = "sim-model"
    served_model_names: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    pod: str = ""
    address: str = ""
    namespace: str = "default"
    seed: int = 0
    time_scale: float = 1.0
    version: str = NEWEST
    profile: str = "h100-llama-8b"
    pacing: Pacing | None = None
    mode: str = "random"
    answers: AnswerSource = field(default_factory=AnswerSource)
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int = 0
    long_prefill_token_threshold: int = 0
    max_waiting: int | None = None
    max_queued_requests: int = 0
    max_queued_tokens: int = 0
    max_body_mb: int = 64
    policy: str = "fcfs"
    block_size: int = 16
    kv_blocks: int = 0
    prefix_caching: bool = True
    reserve_full_isl: bool = True
    hash_seed: str = ""
    lora_modules: tuple[LoraModule, ...] = ()
    max_loras: int = 1
    max_cpu_loras: int = 0
    request_id_headers: bool = False
    startup_s: float = 0.0
    drain_s: float = 30.0
    cache_hit_threshold: float = 0.0
    data_parallel_size: int = 1
    data_parallel_rank: int = -1
    embedding_dimensions: int = 384
    failure_rate: int = 0
    failure_types: tuple[str, ...] = ()
    kv_lease_s: float = 480.0
    events: EventOptions = field(default_factory=EventOptions)
    log_http: bool = False
    tools: ToolLaw = field(default_factory=ToolLaw)
    transport: TransportOptions = field(default_factory=TransportOptions)
    doors: Doors = field(default_factory=Doors)
    nixl: bool = False
    fakes: FakeMetrics | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names the base model answers to, first the one that answers carry."""
        return self.served_model_names or (self.model,)

    @property
    def reachable(self) -> str:
        """The address that others reach it by: POD_IP in a cluster, else where it listens."""
        return self.address or self.host

    @property
    def vllm_version(self) -> Version:
        return Version.parse(self.version)

    @property
    def model_len(self) -> int:
        default = GO_MAX_MODEL_LEN if self.pacing else MAX_MODEL_LEN
        tokens = self.engine_config().blocks * self.block_size
        return self.max_model_len or min(default, tokens - self.block_size)

    @property
    def waiting_limit(self) -> int:
        """Requests that may wait before the next gets 429; 0 is no limit, as in vLLM."""
        if self.max_waiting is not None:
            return self.max_waiting
        return GO_MAX_WAITING if self.pacing else 0

    def engine_config(self) -> EngineConfig:
        """The engine's part. ValueError names the setting that is wrong."""
        paced = self.pacing is not None
        seqs = self.max_num_seqs or (GO_MAX_NUM_SEQS if paced else 0)
        return EngineConfig(
            profile=profile_named(self.profile),
            block_size=self.block_size,
            num_gpu_blocks=self.kv_blocks or (GO_BLOCKS if paced else 0),
            max_num_seqs=seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            long_prefill_token_threshold=self.long_prefill_token_threshold,
            policy="priority" if self.policy == "priority" else "fcfs",
            enable_prefix_caching=self.prefix_caching,
            reserve_full_isl=self.reserve_full_isl,
            max_loras=self.max_loras,
            max_cpu_loras=self.max_cpu_loras,
            kv_lease_s=self.kv_lease_s,
            record_events=bool(self.events.endpoint),
            report_tokens=True,
        )

    def for_rank(self, rank: int) -> SimOptions:
        """The same settings for one data-parallel rank: its port follows its number."""
        return replace(self, port=self.port + rank if self.port else 0, data_parallel_rank=rank)
