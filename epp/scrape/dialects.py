"""What each engine calls its gauges, and how a page becomes a sample.

An endpoint's dialect follows from its engine label, else from a look at the page. Where an engine
renamed a family the newer name stands first and the first one present is read.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from epp.datastore import LoraState, Sample
from epp.domain.endpoint import ENGINE_LABELS
from epp.scrape.spec import MetricSpec, parse_spec
from epp.scrape.text import PageError, Series

Specs = tuple[MetricSpec, ...]
"""Names of one thing, the newest first."""


def specs(*texts: str) -> Specs:
    """Each text is `family` or `family{label=value}`."""
    return tuple(parse_spec(text) for text in texts)


@dataclass(slots=True, frozen=True, kw_only=True)
class Dialect:
    """Where one engine's page says what. Empty means that it does not say."""

    name: str
    waiting: Specs
    running: Specs
    kv_usage: Specs = ()
    max_running: Specs = ()
    lora: Specs = ()
    cache_config: Specs = ()
    """A family whose labels `block_size_label` and `blocks_label` carry the numbers."""
    block_size_label: str = "block_size"
    blocks_label: str = "num_gpu_blocks"
    block_size: Specs = ()
    blocks: Specs = ()
    sleep_state: Specs = ()
    prompt_tokens: Specs = ()
    cached_tokens: Specs = ()
    generated_tokens: Specs = ()
    custom: Mapping[str, MetricSpec] = field(default_factory=dict)

    def speaks(self, page: bytes) -> bool:
        """Whether `page` looks like one of this engine's: it counts waiting or running requests."""
        return bool(_first(self.waiting, page) or _first(self.running, page))

    def sample(self, page: bytes, *, counted: bool = True) -> Sample:
        """What the page says, summed over engine ranks; `counted`: its counters of tokens too.

        Raises `PageError` if it counts neither waiting nor running requests.
        """
        waiting, running = _first(self.waiting, page), _first(self.running, page)
        if not waiting and not running:
            wanted = " or ".join(spec.family for spec in self.waiting + self.running)
            raise PageError(f"no {wanted} in the page: is this a {self.name} server?")
        sizes, blocks = self._cache(page)
        queued, batch = _total(waiting), _total(running)
        counted = counted and batch > 0
        return Sample(
            waiting=queued,
            running=batch,
            kv_usage=_usage(_first(self.kv_usage, page), blocks),
            lora=_lora(_first(self.lora, page)),
            max_running=_sum(_first(self.max_running, page)),
            kv_blocks=int(sum(blocks.values())),
            block_size=int(max(sizes.values(), default=0)),
            sleeping=_sleeping(_first(self.sleep_state, page)),
            # Three searches are a third of a page's cost: only where they tell how fast it works.
            prefilled_tokens=self._prefilled(page) if counted or queued else math.nan,
            generated_tokens=_sum(_first(self.generated_tokens, page)) if counted else math.nan,
            custom=customs(self.custom, page),
        )

    def _cache(self, page: bytes) -> tuple[dict[str, float], dict[str, float]]:
        """Block sizes and numbers of blocks, each by engine rank."""
        config = _first(self.cache_config, page)
        if config:
            sizes = _by_engine(config, self.block_size_label)
            blocks = _by_engine(config, self.blocks_label)
            if sizes or blocks:
                return sizes, blocks
        return _values(_first(self.block_size, page)), _values(_first(self.blocks, page))

    def _prefilled(self, page: bytes) -> float:
        if not self.cached_tokens:
            return math.nan
        return _sum(_first(self.prompt_tokens, page)) - _sum(_first(self.cached_tokens, page))


def customs(wanted: Mapping[str, MetricSpec], page: bytes) -> dict[str, float]:
    """Those of the wanted gauges that a page has, each summed over its series."""
    found = {name: spec.series(page) for name, spec in wanted.items()}
    return {name: _sum(series) for name, series in found.items() if series}


# -- how series become numbers --------------------------------------------------------------------


def _first(alternatives: Specs, page: bytes) -> list[Series]:
    for spec in alternatives:
        if series := spec.series(page):
            return series
    return []


def _sum(series: Sequence[Series]) -> float:
    """Their sum, NaN if there are none."""
    return sum(one.value for one in series) if series else math.nan


def _total(series: Sequence[Series]) -> float:
    """A count of requests: a rank that reports nonsense counts as none."""
    return sum(one.value for one in series if 0 <= one.value < math.inf)


def _engine(series: Series) -> str:
    return series.labels.get("engine", "")


def _values(series: Sequence[Series]) -> dict[str, float]:
    return {_engine(one): one.value for one in series if 0 <= one.value < math.inf}


def _by_engine(series: Sequence[Series], label: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in series:
        labels = one.labels
        if (number := _whole(labels.get(label, ""))) is not None:
            found[labels.get("engine", "")] = number
    return found


def _whole(text: str) -> int | None:
    """The number that `text` is, if it is one that anything is counted in."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _usage(series: Sequence[Series], blocks: Mapping[str, float]) -> float:
    """Mean over ranks, weighted by their blocks where all are known; 0..1, 0 if unknown."""
    usable = [one for one in series if one.value == one.value]
    if not usable:
        return 0.0
    if len(usable) == 1:
        return min(max(usable[0].value, 0.0), 1.0)
    weights = [blocks.get(_engine(one), 0.0) for one in usable]
    if not all(weights):
        weights = [1.0] * len(usable)
    mean = sum(one.value * weight for one, weight in zip(usable, weights, strict=True))
    return min(max(mean / sum(weights), 0.0), 1.0)


def _lora(series: Sequence[Series]) -> LoraState:
    """The series with the greatest value is the current one: the value is a time."""
    if not series:
        return LoraState()
    labels = max(series, key=lambda one: one.value).labels
    return LoraState(
        running=_names(labels.get("running_lora_adapters", "")),
        waiting=_names(labels.get("waiting_lora_adapters", "")),
        max_adapters=_whole(labels.get("max_lora", "")) or 0,
    )


def _names(text: str) -> frozenset[str]:
    return frozenset(name for part in text.split(",") if (name := part.strip()))


def _sleeping(series: Sequence[Series]) -> bool:
    """Asleep if no rank is awake."""
    states = [one for one in series if one.labels.get("sleep_state") == "awake"]
    return bool(states) and not any(one.value for one in states)


# -- the engines ----------------------------------------------------------------------------------

VLLM: Final = Dialect(
    name="vllm",
    waiting=specs("vllm:num_requests_waiting"),
    running=specs("vllm:num_requests_running"),
    kv_usage=specs("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    lora=specs("vllm:lora_requests_info"),
    cache_config=specs("vllm:cache_config_info"),
    sleep_state=specs("vllm:engine_sleep_state"),
    prompt_tokens=specs("vllm:prompt_tokens_total"),
    cached_tokens=specs("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
    generated_tokens=specs("vllm:generation_tokens_total"),
)
SGLANG: Final = Dialect(
    name="sglang",
    waiting=specs("sglang:num_queue_reqs"),
    running=specs("sglang:num_running_reqs"),
    kv_usage=specs("sglang:token_usage"),
    cache_config=specs("sglang:cache_config_info"),
    block_size_label="page_size",
    blocks_label="num_pages",
)
TRTLLM: Final = Dialect(
    name="trtllm-serve",
    waiting=specs("trtllm_num_requests_waiting"),
    running=specs("trtllm_num_requests_running"),
    kv_usage=specs("trtllm_kv_cache_utilization"),
    block_size=specs("trtllm_kv_cache_tokens_per_block"),
    blocks=specs("trtllm_kv_cache_max_blocks"),
)
TRITON_TRTLLM: Final = Dialect(
    name="triton-tensorrt-llm",
    waiting=specs("nv_trt_llm_request_metrics{request_type=waiting}"),
    running=specs("nv_trt_llm_request_metrics{request_type=scheduled}"),
    kv_usage=specs("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"),
    block_size=specs("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}"),
    blocks=specs("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}"),
)
TRITON: Final = Dialect(
    name="triton",
    waiting=specs("nv_inference_pending_request_count"),
    # What the field reads there, though it counts executions since the start.
    running=specs("nv_inference_exec_count"),
)
# triton last: a Triton with TensorRT-LLM exports its families too.
BUILT_IN: Final = (VLLM, SGLANG, TRTLLM, TRITON_TRTLLM, TRITON)


def dialect_from_specs(
    name: str,
    *,
    queued: str = "",
    running: str = "",
    kv_usage: str = "",
    lora: str = "",
    cache_info: str = "",
    block_size_label: str = "block_size",
    blocks_label: str = "num_gpu_blocks",
    block_size: str = "",
    blocks: str = "",
    custom: Mapping[str, str] | None = None,
) -> Dialect:
    """A dialect as a configuration describes it, each text a metric spec, empty for none.

    Raises ValueError naming the first spec that cannot be read, or if neither queued nor running
    requests are given.
    """
    if not queued and not running:
        raise ValueError(f"engine {name!r}: give a spec of queued or of running requests")
    return Dialect(
        name=name,
        waiting=_optional(queued),
        running=_optional(running),
        kv_usage=_optional(kv_usage),
        lora=_optional(lora),
        cache_config=_optional(cache_info),
        block_size_label=block_size_label,
        blocks_label=blocks_label,
        block_size=_optional(block_size),
        blocks=_optional(blocks),
        custom={key: parse_spec(text) for key, text in (custom or {}).items()},
    )


def with_customs(name: str, custom: Mapping[str, str]) -> Dialect:
    """A built-in engine's dialect and further gauges. Raises ValueError for any other engine."""
    for dialect in BUILT_IN:
        if dialect.name == name:
            return replace(dialect, custom={k: parse_spec(text) for k, text in custom.items()})
    raise ValueError(f"engine {name!r}: give a spec of queued or of running requests")


def _optional(text: str) -> Specs:
    return specs(text) if text else ()


class Dialects:
    """The dialects of a picker: those built in, and those of its configuration before them."""

    def __init__(
        self,
        extra: Sequence[Dialect] = (),
        *,
        default: str = "vllm",
        labels: Sequence[str] = ENGINE_LABELS,
    ) -> None:
        self._by_name = {dialect.name: dialect for dialect in (*BUILT_IN, *extra)}
        if default not in self._by_name:
            known = ", ".join(self._by_name)
            raise ValueError(f"no engine is called {default!r}; known: {known}")
        self._default = self._by_name[default]
        self._labels = tuple(labels)

    def choose(self, labels: Mapping[str, str], page: bytes) -> Dialect:
        """By the engine label if it names one we know; else the first that speaks the page."""
        for label in self._labels:
            if dialect := self._by_name.get(labels.get(label, "")):
                return dialect
        if self._default.speaks(page):
            return self._default
        for dialect in self._by_name.values():
            if dialect.speaks(page):
                return dialect
        return self._default
