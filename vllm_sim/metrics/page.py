"""The text of /metrics, in Prometheus' format, with one version's names and labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vllm_sim.metrics.dialect import ENGINE_LABEL_SINCE, Version, exposes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_sim.engine import EngineStats
    from vllm_sim.metrics.record import Histogram, Record

Labels = tuple[tuple[str, str], ...]
SLEEP_STATES = ("awake", "weights_offloaded", "discard_all")


@dataclass(frozen=True, slots=True)
class Gauges:
    """The moment's values of one engine."""

    running: float
    waiting: float
    deferred: float
    kv_usage: float
    fetching: int = 0
    fetched: int = 0
    sleep_level: int = -1


@dataclass(frozen=True, slots=True)
class LoraInfo:
    """The adapters in use; `at` is unix time."""

    max_lora: int
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    at: float


@dataclass(slots=True)
class Page:
    """Builds the text family by family.

    `created` is the unix time of the counters' start, which each counter and histogram shows in a
    gauge of its own, as Prometheus' client library for Python does.
    """

    version: Version
    model: str
    engine: int
    created: float = 0.0
    _lines: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    @property
    def _labels(self) -> Labels:
        engine: Labels = (("engine", str(self.engine)),)
        named = engine if self.version.within(ENGINE_LABEL_SINCE) else ()
        return (*named, ("model_name", self.model))

    def gauges(self, now: Gauges) -> None:
        """The gauges of vLLM's page."""
        gauge = self._gauge
        gauge("num_requests_running", "Requests in the running batch.", {(): now.running})
        gauge("num_requests_waiting", "Requests waiting.", {(): now.waiting})
        by_reason: dict[Labels, float] = {
            (("reason", "capacity"),): now.waiting - now.deferred,
            (("reason", "deferred"),): now.deferred,
        }
        gauge("num_requests_waiting_by_reason", "Requests waiting, by reason.", by_reason)
        stages: dict[Labels, float] = {
            (("stage", "waiting_to_start"),): 0.0,
            (("stage", "in_progress"),): float(now.fetching),
            (("stage", "completed_waiting"),): float(now.fetched),
        }
        gauge("num_requests_kv_fetch_by_stage", "Requests that fetch KV.", stages)
        gauge("kv_cache_usage_perc", "KV cache in use, 1 is all of it.", {(): now.kv_usage})
        gauge("gpu_cache_usage_perc", "KV cache in use; old name.", {(): now.kv_usage})
        awake = max(now.sleep_level, 0)
        states: dict[Labels, float] = {
            (("sleep_state", state),): float(number == awake)
            for number, state in enumerate(SLEEP_STATES)
        }
        gauge("engine_sleep_state", "Sleep state.", states)

    def counters(self, stats: EngineStats, record: Record) -> None:
        """The counters of vLLM's page."""
        local = stats.prompt_tokens - record.cached_tokens - stats.external_hits
        values: dict[str, float] = {
            "gpu_prefix_cache_queries": stats.prefix_queries,
            "gpu_prefix_cache_hits": stats.prefix_hits,
            "prefix_cache_queries": stats.prefix_queries,
            "prefix_cache_hits": stats.prefix_hits,
            "external_prefix_cache_queries": stats.external_queries,
            "external_prefix_cache_hits": stats.external_hits,
            "mm_cache_queries": 0,
            "mm_cache_hits": 0,
            "num_preemptions": stats.preemptions,
            "prompt_tokens": stats.prompt_tokens,
            "prompt_tokens_recomputed": 0,
            "prompt_tokens_cached": record.cached_tokens,
            "generation_tokens": stats.generation_tokens,
            "estimated_flops_per_gpu": 0,
            "estimated_read_bytes_per_gpu": 0,
            "estimated_write_bytes_per_gpu": 0,
        }
        for name, value in values.items():
            self._counter(name, {(): value})
        self._counter_by(
            "prompt_tokens_by_source",
            "source",
            {
                "local_compute": max(local, 0),
                "local_cache_hit": record.cached_tokens,
                "external_kv_transfer": stats.external_hits,
            },
        )
        sources = dict.fromkeys(("host", "disk", "p2p", "external_unspecified"), 0)
        cached = {"device": record.cached_tokens, **sources}
        self._counter_by("prompt_tokens_cached_by_source", "source", cached)
        self._counter_by("request_success", "finished_reason", record.finished)
        self._rejections(record)

    def leases(self, stats: EngineStats) -> None:
        """What the NIXL connector counts on the side of the prefill."""
        self._counter("nixl_num_kv_expired_reqs", {(): stats.leases_expired})

    def _rejections(self, record: Record) -> None:
        name = "admission_rejections"
        if not exposes(self.version, name):
            return
        values: dict[Labels, float] = {
            (("model_name", self.model), ("reason", reason)): value
            for reason, value in record.rejections.items()
        }
        self._counted(f"vllm:{name}", values)

    def histograms(self, histograms: Mapping[str, Histogram]) -> None:
        """Every histogram, the gap between tokens under its old name too where that existed."""
        for name, histogram in histograms.items():
            self._histogram(name, histogram)
        gaps = histograms["inter_token_latency_seconds"]
        self._histogram("time_per_output_token_seconds", gaps)

    def _histogram(self, name: str, histogram: Histogram) -> None:
        if not exposes(self.version, name):
            return
        full = f"vllm:{name}"
        self._head(full, "histogram")
        seen = 0
        for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
            seen += count
            self._sample(f"{full}_bucket", (*self._labels, ("le", str(bound))), seen)
        self._sample(f"{full}_count", self._labels, seen)
        self._sample(f"{full}_sum", self._labels, histogram.total)
        self._begun(full, (self._labels,))

    def cache_config(self, settings: Mapping[str, str]) -> None:
        """The cache's settings as labels of a constant 1."""
        self._head("vllm:cache_config_info", "gauge")
        labels = (*settings.items(), ("engine", str(self.engine)))
        self._sample("vllm:cache_config_info", tuple(sorted(labels)), 1)

    def loras(self, infos: Iterable[LoraInfo]) -> None:
        """One series for each set of adapters seen so far; the newest has the greatest value."""
        self._head("vllm:lora_requests_info", "gauge")
        for info in infos:
            labels = (
                ("max_lora", str(info.max_lora)),
                ("running_lora_adapters", ",".join(info.running)),
                ("waiting_lora_adapters", ",".join(info.waiting)),
            )
            self._sample("vllm:lora_requests_info", labels, info.at)

    def _gauge(self, name: str, text: str, values: Mapping[Labels, float]) -> None:
        if exposes(self.version, name):
            self._head(f"vllm:{name}", "gauge", text)
            for labels, value in values.items():
                self._sample(f"vllm:{name}", (*self._labels, *labels), value)

    def _counter(self, name: str, values: Mapping[Labels, float]) -> None:
        if exposes(self.version, name):
            shown = {(*self._labels, *labels): value for labels, value in values.items()}
            self._counted(f"vllm:{name}", shown)

    def _counted(self, full: str, values: Mapping[Labels, float]) -> None:
        self._head(full, "counter")
        for labels, value in values.items():
            self._sample(f"{full}_total", labels, value)
        self._begun(full, values)

    def _begun(self, full: str, series: Iterable[Labels]) -> None:
        """Since when the series count."""
        self._head(f"{full}_created", "gauge")
        for labels in series:
            self._sample(f"{full}_created", labels, self.created)

    def _counter_by(self, name: str, label: str, values: Mapping[str, float]) -> None:
        self._counter(name, {((label, key),): value for key, value in values.items()})

    def _head(self, name: str, kind: str, text: str = "") -> None:
        shown = f"{name}_total" if kind == "counter" else name
        self._lines.append(f"# HELP {shown} {text or name.removeprefix('vllm:')}")
        self._lines.append(f"# TYPE {shown} {kind}")

    def _sample(self, name: str, labels: Labels, value: float) -> None:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
        self._lines.append(f"{name}{{{inside}}} {float(value)!r}")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
