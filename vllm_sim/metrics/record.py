"""What the server counts for each engine, beside the engine's own counters."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Row

    from vllm_sim.engine import Sequence

FIRST_TOKEN = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
TOKEN_GAP = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
)  # fmt: skip
REQUEST = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
ITERATION = (
    1.0,
    8.0,
    16.0,
    32.0,
    64.0,
    128.0,
    256.0,
    512.0,
    1024.0,
    2048.0,
    4096.0,
    8192.0,
    16384.0,
)
CHOICES = (1.0, 2.0, 5.0, 10.0, 20.0)
PREEMPTIONS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")


def ladder(limit: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50, ... up to the limit."""
    bounds: list[float] = []
    scale = 1
    while True:
        for step in (1, 2, 5):
            if step * scale > limit:
                return tuple(bounds)
            bounds.append(float(step * scale))
        scale *= 10


class Histogram:
    """Counts by upper bound, the last for everything beyond."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Row[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Record:
    """Histograms and request counters of one engine; `limit` is max_model_len, `begun`
    the unix time they count from."""

    limit: int
    begun: float = field(default_factory=time)
    histograms: dict[str, Histogram] = field(init=False)
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FINISH_REASONS, 0))
    rejections: dict[str, int] = field(
        default_factory=lambda: {"max_num_queued_reqs": 0, "max_num_queued_tokens": 0}
    )
    cached_tokens: int = 0

    def __post_init__(self) -> None:
        tokens = ladder(self.limit)
        self.histograms = {
            "time_to_first_token_seconds": Histogram(FIRST_TOKEN),
            "inter_token_latency_seconds": Histogram(TOKEN_GAP),
            "request_time_per_output_token_seconds": Histogram(TOKEN_GAP),
            "e2e_request_latency_seconds": Histogram(REQUEST),
            "request_queue_time_seconds": Histogram(REQUEST),
            "request_inference_time_seconds": Histogram(REQUEST),
            "request_prefill_time_seconds": Histogram(REQUEST),
            "request_decode_time_seconds": Histogram(REQUEST),
            "request_prompt_tokens": Histogram(tokens),
            "request_generation_tokens": Histogram(tokens),
            "request_max_num_generation_tokens": Histogram(tokens),
            "request_params_max_tokens": Histogram(tokens),
            "request_prefill_kv_computed_tokens": Histogram(tokens),
            "request_params_n": Histogram(CHOICES),
            "iteration_tokens_total": Histogram(ITERATION),
            "request_num_preemptions": Histogram(PREEMPTIONS),
        }

    def first_token(self, seq: Sequence) -> None:
        self.histograms["time_to_first_token_seconds"].observe(seq.first_token_at - seq.arrival)
        self.cached_tokens += max(seq.cached_tokens, 0)

    def end(self, seq: Sequence, reason: str, max_tokens: int | None) -> None:
        """One request left: its times by phase and its sizes."""
        self.finished[reason] = self.finished.get(reason, 0) + 1
        observe = self._observe
        observe("e2e_request_latency_seconds", seq.finished_at - seq.arrival)
        observe("request_prompt_tokens", seq.request.prompt_tokens)
        observe("request_generation_tokens", seq.generated)
        observe("request_max_num_generation_tokens", seq.generated)
        observe("request_params_n", 1)
        observe("request_num_preemptions", seq.preemptions)
        if max_tokens is not None:
            observe("request_params_max_tokens", max_tokens)
        if seq.scheduled_at >= 0:
            observe("request_queue_time_seconds", seq.scheduled_at - seq.arrival)
            observe("request_inference_time_seconds", seq.finished_at - seq.scheduled_at)
        if seq.first_token_at >= 0:
            self._phases(seq)

    def _phases(self, seq: Sequence) -> None:
        decode = seq.finished_at - seq.first_token_at
        self._observe("request_prefill_time_seconds", seq.first_token_at - seq.scheduled_at)
        self._observe("request_decode_time_seconds", decode)
        computed = seq.request.prompt_tokens - max(seq.cached_tokens, 0)
        self._observe("request_prefill_kv_computed_tokens", computed)
        each = decode / max(seq.generated - 1, 1)
        self._observe("request_time_per_output_token_seconds", each)

    def _observe(self, name: str, value: float) -> None:
        self.histograms[name].observe(value)
