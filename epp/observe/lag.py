"""How late the event loop is: the one number that says the picker's core is full."""

import asyncio
from collections.abc import Callable
from typing import Final

from epp.domain.clock import Clock

INTERVAL_SECONDS: Final = 0.25


class LagSampler:
    """Asks to be woken every `interval` seconds and tells `lagged` how late it was.

    `sustained` is the smallest lag of the last `window` samples, in seconds: what shedding looks
    at, because one stall is over when it is noticed and turning requests away then helps nobody.
    """

    def __init__(
        self,
        lagged: Callable[[float], None],
        *,
        clock: Clock,
        interval: float = INTERVAL_SECONDS,
        window: int = 3,
    ) -> None:
        self._lagged = lagged
        self._clock = clock
        self._interval = interval
        self._recent = [0.0] * window
        self._turn = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def sustained(self) -> float:
        return min(self._recent)

    def start(self) -> None:
        """Begin sampling on the running loop."""
        self._wait(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def sample(self, late: float) -> None:
        """Note one lag, in seconds; negative ones count as none."""
        late = max(late, 0.0)
        self._recent[self._turn % len(self._recent)] = late
        self._turn += 1
        self._lagged(late)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = self._clock() + self._interval
        self._timer = loop.call_later(self._interval, self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sample(self._clock() - self._due)
        self._wait(loop)
