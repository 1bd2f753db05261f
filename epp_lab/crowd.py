"""A closed load: workers of whom each asks again when what it asked for has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate, pairwise

from epp_lab.job import Job


class Crowd:
    """`levels` of (workers, requests), one after the other; the next begins when one has ended.

    Jobs are dealt out to the levels in the ratio of their requests, in order. A session is one
    job: its worker waits for all turns of it.
    """

    def __init__(self, jobs: Sequence[Job], levels: Sequence[tuple[int, int]]) -> None:
        whole = sum(count for _, count in levels)
        ends = [round(len(jobs) * at / whole) for at in accumulate(count for _, count in levels)]
        self._levels = deque(
            (workers, deque(jobs[first:last]))
            for (workers, _), (first, last) in zip(levels, pairwise([0, *ends]), strict=True)
            if last > first
        )
        self._waiting: deque[Job] = deque()
        self._busy = 0

    def begin(self) -> list[Job]:
        """What the workers of the next level ask for at once; nothing after the last."""
        if not self._levels:
            return []
        workers, self._waiting = self._levels.popleft()
        self._busy = min(workers, len(self._waiting))
        return [self._waiting.popleft() for _ in range(self._busy)]

    def ended(self) -> list[Job]:
        """What is asked for now that one of them has ended."""
        if self._waiting:
            return [self._waiting.popleft()]
        self._busy -= 1
        return [] if self._busy else self.begin()
