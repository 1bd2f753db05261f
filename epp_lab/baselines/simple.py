"""Balancers that know no cache: round robin and the better of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.points import Tools


class RoundRobinPicker:
    """lab-round-robin-picker: one endpoint after the other, whatever it is doing."""

    type: ClassVar[str] = "lab-round-robin-picker"

    def __init__(self) -> None:
        self._last = -1

    def pick(self, request: Request, pool: PoolView, totals: Scores) -> Sequence[int]:
        slots = pool.slots.tolist()
        later = [slot for slot in slots if slot > self._last]
        self._last = min(later or slots)
        return (slots.index(self._last),)


class PowerOfTwoPicker:
    """lab-power-of-two-picker: of two endpoints at random the one with fewer open requests."""

    type: ClassVar[str] = "lab-power-of-two-picker"

    def __init__(self, tools: Tools) -> None:
        self._random = tools.random

    def pick(self, request: Request, pool: PoolView, totals: Scores) -> Sequence[int]:
        if len(pool) < 2:
            return (0,)
        one, other = self._random.sample(range(len(pool)), 2)
        return (min(one, other, key=lambda row: int(pool.inflight_requests[row])),)
