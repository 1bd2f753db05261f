"""A page that is made up: `--fake-metrics`, so that a scorer can be tested without any load.

A gauge is a number or a function of time, `oscillate:0:10:5s` (a sine between the two values),
`ramp` (up once, then stays), `rampreset` (up again and again) or `squarewave` (half a period each).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_sim.durations import seconds_of
from vllm_sim.engine import EngineStats
from vllm_sim.metrics.page import Gauges, LoraInfo
from vllm_sim.metrics.record import Histogram, Record

if TYPE_CHECKING:
    from collections.abc import Iterable

GAUGES = ("running-requests", "waiting-requests", "kv-cache-usage")
BUCKETS = {
    "ttft-buckets-values": ("time_to_first_token_seconds",),
    "tpot-buckets-values": (
        "inter_token_latency_seconds",
        "request_time_per_output_token_seconds",
    ),
    "e2erl-buckets-values": ("e2e_request_latency_seconds",),
    "queue-time-buckets-values": ("request_queue_time_seconds",),
    "inf-time-buckets-values": ("request_inference_time_seconds",),
    "prefill-time-buckets-values": ("request_prefill_time_seconds",),
    "decode-time-buckets-values": ("request_decode_time_seconds",),
}
"""Counts by bucket of these histograms; what is missing at the end is 0."""
SAMPLES = {
    "request-prompt-tokens": "request_prompt_tokens",
    "request-generation-tokens": "request_generation_tokens",
    "request-params-max-tokens": "request_params_max_tokens",
    "request-max-generation-tokens": "request_max_num_generation_tokens",
}
"""Values that these histograms have observed."""
COUNTERS = {
    "total-prompt-tokens": "prompt_tokens",
    "total-generation-tokens": "generation_tokens",
    "prefix-cache-hits": "prefix_hits",
    "prefix-cache-queries": "prefix_queries",
}
REASONS = ("stop", "length", "tool_calls", "remote_decode", "abort", "error", "repetition")
KEYS = (*GAUGES, *BUCKETS, *SAMPLES, *COUNTERS, "request-success-total", "loras")


def _sine(phase: float) -> float:
    return (1 + math.sin(2 * math.pi * phase)) / 2


FUNCTIONS: dict[str, Callable[[float], float]] = {
    "oscillate": _sine,
    "ramp": lambda phase: min(phase, 1.0),
    "rampreset": lambda phase: phase % 1.0,
    "squarewave": lambda phase: float(phase % 1.0 >= 0.5),
}
"""How far from start to end, 0 to 1, after so many periods."""


@dataclass(frozen=True, slots=True)
class Course:
    """A value over time; a fixed one stays at its start."""

    start: float
    end: float = 0.0
    period_s: float = 1.0
    function: str = ""

    @classmethod
    def of(cls, name: str, given: object) -> Course:
        """A number, or a text such as `ramp:0:10:30s`; ValueError names the metric."""
        if isinstance(given, (int, float)) and not isinstance(given, bool):
            return cls(float(given)).within(name)
        parts = str(given).split(":")
        if not isinstance(given, str) or len(parts) != 4 or parts[0] not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            raise ValueError(
                f"fake-metrics: {name} must be a number or function:start:end:period, the function "
                f"one of {known}"
            )
        try:
            course = cls(float(parts[1]), float(parts[2]), seconds_of(parts[3]), parts[0])
        except ValueError as error:
            raise ValueError(f"fake-metrics: {name}: {error}") from None
        return course.within(name)

    def within(self, name: str) -> Course:
        """Itself, or ValueError: below 0, or a share above 1."""
        most = 1.0 if name == "kv-cache-usage" else math.inf
        ends = (self.start, self.end)
        if not all(0 <= value <= most and math.isfinite(value) for value in ends):
            raise ValueError(f"fake-metrics: {name} must lie between 0 and {most}")
        if self.period_s <= 0:
            raise ValueError(f"fake-metrics: {name}: the period must be above 0")
        return self

    def at(self, seconds: float) -> float:
        if not self.function:
            return self.start
        share = FUNCTIONS[self.function](seconds / self.period_s)
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True, slots=True)
class FakeMetrics:
    """What the page shows; `given` is the JSON behind it, times are seconds since its start."""

    given: Mapping[str, Any]
    interval_s: float
    courses: Mapping[str, Course]
    loras: tuple[LoraInfo, ...]

    @classmethod
    def of(cls, given: Mapping[str, Any], interval_s: float = 0.1) -> FakeMetrics:
        """From the JSON object of the flag. ValueError names the field that is wrong."""
        for key in given:
            if key not in KEYS:
                raise ValueError(f"fake-metrics: {key!r} is unknown; known: {', '.join(KEYS)}")
        courses = {name: Course.of(name, given.get(name, 0)) for name in GAUGES}
        for name in (*BUCKETS, *SAMPLES):
            _counts(name, given.get(name, []))
        _check_counters(given)
        _check_reasons(given.get("request-success-total", {}))
        fakes = cls(dict(given), interval_s, courses, _loras(given.get("loras", [])))
        fakes.record(1)
        return fakes

    def merged(self, changes: Mapping[str, Any]) -> FakeMetrics:
        """With these fields over the present ones; null changes nothing."""
        said = {name: value for name, value in changes.items() if value is not None}
        return FakeMetrics.of({**self.given, **said}, self.interval_s)

    def gauges(self, seconds: float) -> Gauges:
        """The gauges, as computed at the last refresh before `seconds`."""
        at = math.floor(seconds / self.interval_s) * self.interval_s
        running, waiting, usage = (self.courses[name].at(at) for name in GAUGES)
        return Gauges(running, waiting, 0.0, usage)

    def stats(self) -> EngineStats:
        """The counters: totals where they are given, else the sums of the samples."""
        stats = EngineStats(
            prompt_tokens=sum(self.given.get("request-prompt-tokens", ())),
            generation_tokens=sum(self.given.get("request-generation-tokens", ())),
        )
        for name, field in COUNTERS.items():
            if name in self.given:
                setattr(stats, field, self.given[name])
        return stats

    def record(self, limit: int) -> Record:
        """Histograms and finished requests; `limit` is max_model_len."""
        record = Record(limit, cached_tokens=self.given.get("prefix-cache-hits", 0))
        for name, histograms in BUCKETS.items():
            for histogram in histograms:
                _fill(name, record.histograms[histogram], self.given.get(name, ()))
        for name, histogram in SAMPLES.items():
            for value in self.given.get(name, ()):
                record.histograms[histogram].observe(value)
        record.finished.update(self.given.get("request-success-total", {}))
        return record


def _fill(name: str, histogram: Histogram, counts: Iterable[int]) -> None:
    """Each count as so many observations at the bucket's upper bound."""
    bounds = (*histogram.bounds, histogram.bounds[-1])
    row = list(counts)
    if len(row) > len(bounds):
        raise ValueError(f"fake-metrics: {name} has more than {len(bounds)} buckets")
    for number, count in enumerate(row):
        histogram.counts[number] += count
        histogram.total += count * bounds[number]


def _counts(name: str, row: object) -> None:
    if not isinstance(row, list) or not all(_is_count(value) for value in row):
        raise ValueError(f"fake-metrics: {name} must be a list of counts, none negative")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _check_counters(given: Mapping[str, Any]) -> None:
    for name in COUNTERS:
        if name in given and not _is_count(given[name]):
            raise ValueError(f"fake-metrics: {name} must be a count, not negative")
    hits, queries = (given.get(f"prefix-cache-{kind}") for kind in ("hits", "queries"))
    if (hits is None) != (queries is None) or (hits or 0) > (queries or 0):
        raise ValueError(
            "fake-metrics: prefix-cache-hits and -queries come together, hits not above queries"
        )


def _check_reasons(reasons: object) -> None:
    fine = isinstance(reasons, dict) and all(
        reason in REASONS and _is_count(count) for reason, count in reasons.items()
    )
    if not fine:
        raise ValueError(f"fake-metrics: request-success-total maps {', '.join(REASONS)} to counts")


def _loras(rows: object) -> tuple[LoraInfo, ...]:
    if not isinstance(rows, list):
        raise ValueError("fake-metrics: loras must be a list")
    return tuple(_lora(row) for row in rows)


def _lora(row: object) -> LoraInfo:
    """One series: comma lists of adapters and the unix time it shows; JSON text in YAML files."""
    try:
        body: Any = json.loads(row) if isinstance(row, str) else row
        names = [str(body.get(key, "")).split(",") for key in ("running", "waiting")]
        running, waiting = (tuple(name for name in part if name) for part in names)
        return LoraInfo(0, running, waiting, float(body.get("timestamp", 0)))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(
            'fake-metrics: a lora must look like {"running": "a,b", "waiting": "c", "timestamp": 1}'
        ) from None
