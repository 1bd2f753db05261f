"""What happens next: virtual time and the list of things to come."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any


class Agenda:
    """Virtual time in seconds. Of two things at one time the one put down first goes first.

    Calling it gives the time, so it is the clock of everything in a simulation.
    """

    def __init__(self, start: float = 0.0) -> None:
        self.now = start
        self._order = count()
        self._heap: list[tuple[float, int, Callable[[Any], None], Any]] = []

    def __call__(self) -> float:
        return self.now

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, at: float, act: Callable[[Any], None], about: Any = None) -> None:
        """Do `act(about)` at time `at`, or now if that has passed."""
        heappush(self._heap, (max(at, self.now), next(self._order), act, about))

    def run(self, done: Callable[[], bool]) -> None:
        """Let things happen until there is nothing more to come or `done` says so."""
        heap = self._heap
        while heap and not done():
            self.now, _, act, about = heappop(heap)
            act(about)
