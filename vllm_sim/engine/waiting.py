"""The waiting queue: one lane per adapter, so that a full LoRA slot blocks only its own lane."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from vllm_sim.engine.sequence import Sequence, State

if TYPE_CHECKING:
    from collections.abc import Callable

Key = tuple[float, ...]


class WaitingQueue:
    """Sequences in the order of their policy; aborted ones are dropped when they surface."""

    def __init__(self, *, by_priority: bool) -> None:
        self._by_priority = by_priority
        self._lanes: dict[str | None, list[tuple[Key, Sequence]]] = {}
        self._front = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, seq: Sequence) -> None:
        """Queues at the place its order gives it: the end for a new one."""
        self._put(seq, self._key(seq, seq.order))

    def push_front(self, seq: Sequence) -> None:
        """Queues a preempted sequence first (fcfs), or first of its priority and arrival."""
        self._front -= 1
        self._put(seq, self._key(seq, self._front))

    def _key(self, seq: Sequence, order: int) -> Key:
        if self._by_priority:
            return (seq.request.priority, seq.arrival, order)
        return (order,)

    def _put(self, seq: Sequence, key: Key) -> None:
        seq.state = State.WAITING
        heappush(self._lanes.setdefault(seq.request.lora, []), (key, seq))
        self._size += 1

    def head(self, allowed: Callable[[str | None], bool]) -> Sequence | None:
        """The first sequence whose adapter is allowed, or None."""
        best: tuple[Key, Sequence] | None = None
        for lora, lane in list(self._lanes.items()):
            while lane and lane[0][1].state is not State.WAITING:
                heappop(lane)
            if not lane:
                del self._lanes[lora]
            elif (best is None or lane[0][0] < best[0]) and allowed(lora):
                best = lane[0]
        return best[1] if best else None

    def pop(self, seq: Sequence) -> None:
        """Removes the sequence that `head` has just given."""
        heappop(self._lanes[seq.request.lora])
        self._size -= 1

    def discard(self, seq: Sequence) -> None:
        """Counts out a sequence that was aborted while it waited."""
        seq.state = State.ABORTED
        self._size -= 1

    def loras(self) -> list[str]:
        """Adapters that somebody waits for, sorted."""
        return sorted(
            lora
            for lora, lane in self._lanes.items()
            if lora is not None and any(seq.state is State.WAITING for _, seq in lane)
        )
