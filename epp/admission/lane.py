"""A lane: requests of one flow that never overtake each other."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from epp.domain.waiting import Waiting


class Lane:
    """A heap by a key that stays as it is; who leaves is forgotten at once, without a search."""

    __slots__ = ("_gone", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Waiting]] = []
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return len(self._heap) - len(self._gone)

    def __iter__(self) -> Iterator[Waiting]:
        """In the order in which they would go."""
        return (entry[2] for entry in sorted(self._heap) if entry[1] not in self._gone)

    @property
    def head(self) -> Waiting:
        """Who is next. Raises IndexError when nobody waits."""
        return self._heap[0][2]

    def push(self, key: float, waiting: Waiting) -> None:
        """Smaller keys go first, of equal ones who came first."""
        heappush(self._heap, (key, waiting.number, waiting))

    def remove(self, waiting: Waiting) -> None:
        """Somebody leaves. When more places are empty than taken they are cleared."""
        self._gone.add(waiting.number)
        if len(self._gone) * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[1] not in self._gone]
            heapify(self._heap)
            self._gone.clear()
        while self._heap and self._heap[0][1] in self._gone:
            self._gone.discard(heappop(self._heap)[1])
