"""What a soak's samples come to: is memory flat, are files and tasks, is anything left over.

Pure: samples and tallies in, verdicts out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

LONG_SECONDS = 600.0
"""From this length on a run says something about memory to the megabyte."""
RISE_MB = 4.0
"""What memory may rise over the last two thirds of a long run."""
RISE_MB_SHORT = 24.0
"""The same of a short one, in which caches still fill and the allocator finds its size."""
SPREAD = 6
"""Files or tasks by which the thirds of a run may differ: connections come and go."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The picker at one moment. `at` in seconds since the traffic began."""

    at: float
    rss_mb: float
    cpu_seconds: float
    files: int
    tasks: int
    lag_ms: float
    open: int
    streams: int
    held: int
    queued: int
    blocks: int
    """Blocks the prefix index remembers."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that was judged."""

    name: str
    good: bool
    told: str

    def __str__(self) -> str:
        return f"{'ok   ' if self.good else 'FAULT'} {self.name}: {self.told}"


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The least-squares slope of y over x; 0 where there is no line to fit."""
    if len(points) < 2:
        return 0.0
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    if not spread:
        return 0.0
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread


def thirds(samples: Sequence[Sample]) -> tuple[Sequence[Sample], ...]:
    """The samples by thirds of the time they cover."""
    if not samples:
        return (), (), ()
    begin, end = samples[0].at, samples[-1].at
    length = (end - begin) / 3 or 1.0
    parts: tuple[list[Sample], ...] = ([], [], [])
    for sample in samples:
        parts[min(int((sample.at - begin) / length), 2)].append(sample)
    return parts


def memory(samples: Sequence[Sample]) -> Verdict:
    """Flat: neither the line through the last two thirds rises, nor the median of the last."""
    _, second, last = thirds(samples)
    if not second or not last:
        return Verdict("memory", False, "too few samples to say anything")
    both = [*second, *last]
    span = both[-1].at - both[0].at
    long = samples[-1].at - samples[0].at >= LONG_SECONDS
    bound = RISE_MB if long else RISE_MB_SHORT
    each_second = slope([(sample.at, sample.rss_mb) for sample in both])
    between = median(s.rss_mb for s in last) - median(s.rss_mb for s in second)
    told = (
        f"{median(s.rss_mb for s in last):.1f} MiB in the last third; over the last two "
        f"{each_second * span:+.2f} MiB by the line ({each_second * 3600:+.1f} an hour), "
        f"{between:+.2f} by medians; {bound:g} allowed"
    )
    return Verdict("memory", max(each_second * span, between) <= bound, told)


def flat(name: str, samples: Sequence[Sample], value: Callable[[Sample], int]) -> Verdict:
    """A count whose median in the last third is no more than a few above that of the second."""
    _, second, last = thirds(samples)
    if not second or not last:
        return Verdict(name, False, "too few samples to say anything")
    before, after = (median(map(value, part)) for part in (second, last))
    told = f"median {before:g}, then {after:g}; at most {max(map(value, samples))}"
    return Verdict(name, after <= before + SPREAD, told)


def at_rest(
    before: tuple[int, int], after: tuple[int, int], counters: Mapping[str, float]
) -> list[Verdict]:
    """Counters are zero; files and tasks (a pair of counts) are what they were before traffic."""
    left = {name: value for name, value in counters.items() if value}
    told = "all zero: " + ", ".join(counters) if not left else f"left over: {left}"
    verdicts = [Verdict("counters at rest", not left, told)]
    for name, was, now in zip(("files at rest", "tasks at rest"), before, after, strict=True):
        verdicts.append(
            Verdict(name, now <= was + SPREAD, f"{was} before the traffic, {now} after")
        )
    return verdicts


def pace(sent: int, seconds: float, rate: float) -> Verdict:
    """The client kept up: a soak at a lower rate is another soak."""
    real = sent / seconds if seconds else 0.0
    return Verdict("rate", real >= 0.8 * rate, f"{real:.1f} a second sent of {rate:g} wanted")
