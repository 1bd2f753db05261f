"""How fast the queue drains, and so when it is worth trying again."""

import math
from typing import Final

HALF_LIFE: Final = 10.0
LONGEST: Final = 60
UNKNOWN: Final = 5
"""Seconds that are asked for while nothing has left lately."""
LITTLE: Final = 0.1
"""Requests that are left to count, of those before a pause, when the rate is measured anew."""


class DrainRate:
    """Requests a second that left the queue for an endpoint; the last seconds count most."""

    __slots__ = ("_at", "_count", "_since")

    def __init__(self) -> None:
        self._count = 0.0
        self._at = 0.0
        self._since = math.inf

    def left(self, now: float) -> None:
        """One more has left."""
        count = self._decayed(now)
        if count < LITTLE:
            # After a pause the clock starts anew: time without requests says nothing of the rate.
            self._since, count = now, 0.0
        self._count = count + 1.0
        self._at = now

    def rate(self, now: float) -> float:
        """Requests a second. The first ten seconds, at first and after each pause, count as is."""
        span = min(max(now - self._since, 1.0), HALF_LIFE / math.log(2))
        return self._decayed(now) / span

    def retry_after(self, ahead: int, now: float) -> int:
        """Whole seconds until `ahead` requests have left, 1..60."""
        rate = self.rate(now)
        if rate < 0.01:
            return UNKNOWN
        return min(max(math.ceil(ahead / rate), 1), LONGEST)

    def _decayed(self, now: float) -> float:
        return float(self._count * 0.5 ** ((now - self._at) / HALF_LIFE))
