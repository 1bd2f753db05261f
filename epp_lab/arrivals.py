"""When requests come, where the load is open: a slow pool is not spared.

All give `count` times in seconds from 0, rising, at `rate` in a second on average.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["poisson", "constant", "bursts", "clumps", "concurrent"]

BURST_PERIOD_S = 20.0
BURST_SHARE = 0.2
"""Share of the time in which a burst goes on."""
BURST_LOAD = 0.6
"""Share of the requests that come within bursts: three times the mean rate."""
CLUMP_GAP = 0.1
"""Mean gap within a clump, in those of all requests: ten times the mean rate."""


def times(kind: Kind, count: int, rate: float, rng: random.Random, cv: float = 1.0) -> list[float]:
    """`count` arrival times of this kind; of those that are `concurrent` all is due at 0."""
    if kind == "concurrent":
        return [0.0] * count
    if kind == "constant":
        return [number / rate for number in range(count)]
    if kind == "poisson":
        return poisson(count, rate, rng)
    if kind == "clumps":
        return clumped(count, rate, cv, rng)
    return [warped(at * rate, rate) for at in poisson(count, rate, rng)]


def poisson(count: int, rate: float, rng: random.Random) -> list[float]:
    """Independent arrivals."""
    now, found = 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        found.append(now)
    return found


def clumped(count: int, rate: float, cv: float, rng: random.Random) -> list[float]:
    """Gaps of two exponential kinds, short within a clump and long between two of them.

    The long ones are as long and as rare as makes `cv`, at least 1, the coefficient of variation of
    all. Stretched to the rate that was asked: at a high `cv` the mean of thousands of gaps is
    chance.
    """
    long = ((1.0 + cv * cv) / 2.0 - CLUMP_GAP) / (1.0 - CLUMP_GAP)
    rare = (1.0 - CLUMP_GAP) / (long - CLUMP_GAP)
    means = (long if rng.random() < rare else CLUMP_GAP for _ in range(count))
    found = list(accumulate(rng.expovariate(1.0 / mean) for mean in means))
    return [at * count / rate / found[-1] for at in found]


def warped(work: float, rate: float) -> float:
    """The time at which `work` requests are due when the rate swings between bursts and calm."""
    periods, rest = divmod(work / rate / BURST_PERIOD_S, 1.0)
    if rest < BURST_LOAD:
        share = rest / BURST_LOAD * BURST_SHARE
    else:
        share = BURST_SHARE + (rest - BURST_LOAD) / (1 - BURST_LOAD) * (1 - BURST_SHARE)
    return (periods + share) * BURST_PERIOD_S


def staged(work: float, stages: Sequence[tuple[float, float]]) -> float:
    """The time at which `work` requests are due in stages of (rate, duration).

    The last stage that has a rate goes on for what is left.
    """
    began, last = 0.0, (0.0, 0.0)
    for rate, duration in stages:
        if rate and work < rate * duration:
            return began + work / rate
        if rate:
            last = (began + duration, rate)
        work -= rate * duration
        began += duration
    ended, rate = last
    return ended + work / rate
