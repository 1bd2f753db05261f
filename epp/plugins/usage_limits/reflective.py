"""Ceilings that sink as the pool fills."""

from collections.abc import Sequence
from typing import ClassVar

from epp.points import Tools


class SoftReflectiveCeilingPolicy:
    """soft-reflective-ceiling-policy: the fuller the pool, the lower the ceilings of lower bands.

    Formula: ceiling = 1 - i x saturation / (N - 1) for the i-th of N bands from the top; a pool at
    or past it opens the band for one of round(saturation / (1 - saturation)) looks, and for none
    from saturation 1 on.
    Parameters: none.
    Reads: saturation of the pool.
    Differs from the Go picker: the ceiling is compared with how full each endpoint is.
    Example:
        - type: soft-reflective-ceiling-policy
    """

    type: ClassVar[str] = "soft-reflective-ceiling-policy"

    def __init__(self, tools: Tools) -> None:
        self._looks: dict[int, int] = tools.state.keep("looks", dict)

    def ceilings(self, priorities: Sequence[int], saturation: float) -> Sequence[float]:
        last = max(len(priorities) - 1, 1)
        return [self._ceiling(p, i / last, saturation) for i, p in enumerate(priorities)]

    def _ceiling(self, priority: int, down: float, saturation: float) -> float:
        ceiling = 1.0 - down * min(saturation, 1.0)
        if saturation < ceiling:
            self._looks.pop(priority, None)
            return ceiling
        if saturation >= 1.0:
            return ceiling
        looks = self._looks.get(priority, 0) + 1
        opens = looks >= max(round(saturation / (1.0 - saturation)), 1)
        self._looks[priority] = 0 if opens else looks
        return 1.0 if opens else ceiling
