"""Simulated time: the monotonic clock, `scale` times faster."""

from __future__ import annotations

from time import monotonic


class SimClock:
    """Seconds since it was made, times the scale."""

    __slots__ = ("_begun", "scale")

    def __init__(self, scale: float = 1.0) -> None:
        self._begun = monotonic()
        self.scale = scale

    def now(self) -> float:
        return (monotonic() - self._begun) * self.scale

    def wall(self, seconds: float) -> float:
        """Real seconds that so many simulated ones take."""
        return seconds / self.scale
