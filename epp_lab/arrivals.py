"""When requests come: open loop, so that a slow pool is not spared.

All give `count` times in seconds from 0, rising, at `rate` in a second on average.
"""

from __future__ import annotations

import random
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["poisson", "constant", "bursts"]

BURST_PERIOD_S = 20.0
BURST_SHARE = 0.2
"""Share of the time in which a burst goes on."""
BURST_LOAD = 0.6
"""Share of the requests that come within bursts: three times the mean rate."""


def times(kind: Kind, count: int, rate: float, rng: random.Random) -> list[float]:
    """`count` arrival times of this kind."""
    if kind == "constant":
        return [number / rate for number in range(count)]
    if kind == "poisson":
        return poisson(count, rate, rng)
    return [warped(at * rate, rate) for at in poisson(count, rate, rng)]


def poisson(count: int, rate: float, rng: random.Random) -> list[float]:
    """Independent arrivals."""
    now, found = 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        found.append(now)
    return found


def warped(work: float, rate: float) -> float:
    """The time at which `work` requests are due when the rate swings between bursts and calm."""
    periods, rest = divmod(work / rate / BURST_PERIOD_S, 1.0)
    if rest < BURST_LOAD:
        share = rest / BURST_LOAD * BURST_SHARE
    else:
        share = BURST_SHARE + (rest - BURST_LOAD) / (1 - BURST_LOAD) * (1 - BURST_SHARE)
    return (periods + share) * BURST_PERIOD_S
