"""The knee of a workload: the highest rate at which one policy still meets the SLO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ldexp, sqrt
from statistics import fmean
from typing import Final

from epp_lab.run import run_workload
from epp_lab.workload import Workload

GOOD: Final = 0.9
"""Share of the requests that must meet the SLO."""
PRECISION: Final = 0.03
FURTHEST: Final = 3
"""Knees are looked for within two to this power of the one given."""


class NoKnee(ValueError):
    """A workload that has none where it was looked for; the message says what to change."""


def knee(workload: Workload, policy: str, seeds: Sequence[int]) -> float:
    """Requests in a second for each replica, to within `PRECISION`, by halving on a log scale.

    Raises NoKnee.
    """
    if workload.closed:
        raise NoKnee(f"{workload.name} is a closed load, which has no rate; compare it at --loads")

    def good(load: float) -> bool:
        found = [run_workload(workload, policy, load, seed).measure.goodput for seed in seeds]
        return fmean(found) >= GOOD

    low, high = _bracket(good)
    while high / low > 1 + PRECISION:
        middle = sqrt(low * high)
        low, high = (middle, high) if good(middle) else (low, middle)
    return sqrt(low * high) * workload.knee


def _bracket(good: Callable[[float], bool]) -> tuple[float, float]:
    """A load that is good and one, twice as high, that is not."""
    loads: list[float] = [ldexp(1.0, power) for power in range(-FURTHEST, FURTHEST + 1)]
    first = next((load for load in loads if not good(load)), None)
    if first is None or first == loads[0]:
        rate, slo, replicas = (
            ("lower", "laxer", "more") if first else ("higher", "stricter", "fewer")
        )
        raise NoKnee(
            f"no knee between {loads[0]:g} and {loads[-1]:g} of the workload's (of a trace file:"
            f" of its recorded rate); give {replicas} replicas, a {slo} SLO"
            f" or, in a file, a {rate} knee"
        )
    return first / 2, first
