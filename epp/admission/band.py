"""The requests of one priority: flows by fairness id, lanes inside a flow.

Heads of lanes are compared when somebody goes, never when somebody comes: a rank that changes with
time, or with what others did, cannot go stale.
"""

from collections.abc import Hashable, Iterator
from typing import Final, TypeAlias
from zlib import crc32

from epp.admission.lane import Lane
from epp.admission.room import Levels
from epp.admission.settings import BandSettings
from epp.domain.waiting import Contender, Waiting

MOST_FLOWS: Final = 128
"""Flows of one band with a queue of their own; beyond them ids share `SHARED` queues."""
SHARED: Final = 32
MOST_LANES: Final = 256
"""Lanes of one band; beyond them those of one flow and criticality share one."""

Flow: TypeAlias = dict[Hashable, Lane]


class Band:
    """A queue. Whoever is in it is counted, in requests and in bytes."""

    __slots__ = ("_flows", "_lanes", "_seats", "bytes", "priority", "settings")

    def __init__(self, priority: int, settings: BandSettings) -> None:
        self.priority = priority
        self.settings = settings
        self.bytes = 0
        self._lanes = 0
        self._flows: dict[str, Flow] = {}
        self._seats: dict[str, tuple[Waiting, str, Hashable]] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def __iter__(self) -> Iterator[Waiting]:
        """In the order in which they came."""
        return (seat[0] for seat in self._seats.values())

    @property
    def flows(self) -> tuple[str, ...]:
        """Names of the queues there are."""
        return tuple(self._flows)

    def newest_first(self) -> Iterator[Waiting]:
        """The other way round."""
        return (seat[0] for seat in reversed(self._seats.values()))

    def has_room(self, size: int) -> bool:
        """Whether a request of `size` bytes fits in; an empty band takes any."""
        limits = self.settings
        if not self._seats:
            return True
        return len(self._seats) < limits.max_requests and self.bytes + size <= limits.max_bytes

    def push(self, waiting: Waiting, *, aside: bool = False) -> None:
        """Take one in; one put `aside` is in the way of nobody who came behind it."""
        ordering = self.settings.ordering
        flow = waiting.queue = self._flow_of(waiting)
        lanes = self._flows.setdefault(flow, {})
        key: Hashable = (waiting.subset, ordering.lane(waiting))
        if aside:
            key = (waiting.number, key)
        if key not in lanes and self._lanes >= MOST_LANES:
            # Those set aside share one of their own, so that they are still in nobody's way.
            key = aside, waiting.workload.criticality
        if key not in lanes:
            lanes[key] = Lane()
            self._lanes += 1
        # Nor in each other's: each is first when it may be tried again.
        lanes[key].push(waiting.retry_at if aside else ordering.key(waiting), waiting)
        self._seats[waiting.request.id] = waiting, flow, key
        self.bytes += waiting.size

    def remove(self, waiting: Waiting) -> None:
        _, flow, key = self._seats.pop(waiting.request.id)
        lane = self._flows[flow][key]
        lane.remove(waiting)
        self.bytes -= waiting.size
        if not lane:
            del self._flows[flow][key]
            self._lanes -= 1
        if not self._flows[flow]:
            del self._flows[flow]

    def next(self, levels: Levels, ceiling: float, now: float) -> Waiting | None:
        """Who goes next, of those for whom an endpoint has room under `ceiling`; None if none."""
        contenders = list(self._contenders(levels, ceiling, now))
        if not contenders:
            return None
        if len(contenders) == 1:
            return contenders[0].head
        return contenders[self.settings.fairness.choose(self.priority, contenders, now)].head

    def in_order(self, now: float) -> list[Waiting]:
        """Everybody, as the ordering policy ranks them now, whatever flow they are of."""
        rank = self.settings.ordering.rank
        return sorted(self, key=lambda waiting: (rank(waiting, now), waiting.number))

    def _flow_of(self, waiting: Waiting) -> str:
        if waiting.flow in self._flows or len(self._flows) < MOST_FLOWS:
            return waiting.flow
        return f"\0shared {crc32(waiting.flow.encode()) % SHARED}"

    def _contenders(self, levels: Levels, ceiling: float, now: float) -> Iterator[Contender]:
        ordering = self.settings.ordering
        for name, lanes in self._flows.items():
            best: Contender | None = None
            for lane in lanes.values():
                head = lane.head
                level = levels.of(head.subset)
                if head.retry_at > now or level >= ceiling * ordering.share(head, now):
                    continue
                rank = ordering.rank(head, now)
                if best is None or (rank, head.number) < (best.rank, best.head.number):
                    best = Contender(name, head, rank)
            if best is not None:
                yield best
