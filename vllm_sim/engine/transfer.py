"""KV between replicas: blocks pinned for a reader, and prompts whose KV is on its way."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from vllm_sim.engine.sequence import Sequence, State

if TYPE_CHECKING:
    from collections.abc import Iterator


class Transfers:
    """Pins by request id with their lease, and fetches by the time they are complete."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self.pins: dict[str, tuple[Sequence, float]] = {}
        self._fetches: list[tuple[float, int, Sequence]] = []
        self.fetching = 0

    def pin(self, seq: Sequence, now: float) -> None:
        """Keeps the blocks of a finished prefill until they are read or the lease ends."""
        self.pins[seq.request.id] = (seq, now + self._lease_s)

    def unpin(self, request_id: str) -> Sequence | None:
        """The sequence whose blocks may be freed, None when the lease is over or unknown."""
        pin = self.pins.pop(request_id, None)
        return pin[0] if pin else None

    def expired(self, now: float) -> list[Sequence]:
        """Pins whose lease has ended, taken out; oldest first, since every lease is as long."""
        over = []
        for seq, until in self.pins.values():
            if until > now:
                break
            over.append(seq)
        for seq in over:
            del self.pins[seq.request.id]
        return over

    def fetch(self, seq: Sequence, ready_at: float) -> None:
        seq.state = State.FETCHING
        heappush(self._fetches, (ready_at, seq.order, seq))
        self.fetching += 1

    def abandon(self, seq: Sequence) -> None:
        """Counts out a fetch whose request was aborted."""
        seq.state = State.ABORTED
        self.fetching -= 1

    def arrived(self, now: float) -> Iterator[Sequence]:
        """Sequences whose KV is here, in the order it came."""
        while self._fetches and self._fetches[0][0] <= now:
            seq = heappop(self._fetches)[2]
            if seq.state is State.FETCHING:
                self.fetching -= 1
                yield seq

    def next_time(self) -> float | None:
        """When the next fetch is complete or the next lease ends."""
        while self._fetches and self._fetches[0][2].state is not State.FETCHING:
            heappop(self._fetches)
        times = [self._fetches[0][0]] if self._fetches else []
        if self.pins:
            times.append(next(iter(self.pins.values()))[1])
        return min(times, default=None)
