"""The queue of flow control, as a pure machine: requests and times in, who goes and who is refused.

It holds no socket, no timer and no future. The shell (`control.py`) offers requests, says when an
endpoint may have got room, and asks for `next_deadline` so that one timer is enough.
"""

import enum
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final

from epp.admission.band import Band
from epp.admission.drain import DrainRate
from epp.admission.room import Levels
from epp.admission.settings import FlowSettings
from epp.domain.request import SubsetHint
from epp.domain.waiting import Waiting
from epp.errors import (
    Expired,
    ExpiredWithoutEndpoints,
    QueueFull,
    QueueFullWithoutEndpoints,
    Refused,
)

FIRST_RETRY: Final = 0.02
LAST_RETRY: Final = 1.0
MOST_SUBSETS: Final = 64
"""Hints that are remembered for as long as somebody waits."""


class Outcome(enum.Enum):
    """What became of a request in flow control, by the names of its metrics."""

    DISPATCHED = "Dispatched"
    REJECTED_CAPACITY = "RejectedCapacity"
    REJECTED_NO_ENDPOINTS = "RejectedNoEndpoints"
    EVICTED_TTL = "EvictedTTL"
    EVICTED_NO_ENDPOINTS = "EvictedNoEndpoints"
    EVICTED_CANCELLED = "EvictedContextCancelled"


@dataclass(slots=True, frozen=True)
class Refusal:
    """This request waits no longer; its client is told `error`."""

    waiting: Waiting
    error: Refused
    outcome: Outcome


class Machine:
    """Bands by priority, highest first. `len` is the number of requests that wait."""

    def __init__(self, settings: FlowSettings) -> None:
        self.settings = settings
        self.drain = DrainRate()
        self.bytes = 0
        self._bands: dict[int, Band] = {}
        self._by_id: dict[str, tuple[Waiting, Band]] = {}
        self._deadlines: list[tuple[float, int, Waiting]] = []
        self._empty_pool = False
        self._retries: list[tuple[float, int, Waiting]] = []
        self._subsets: dict[frozenset[object], SubsetHint] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def bands(self) -> tuple[Band, ...]:
        """Those in which somebody waits, highest priority first."""
        return tuple(self._bands[priority] for priority in sorted(self._bands, reverse=True))

    @property
    def priorities(self) -> Iterable[int]:
        """Those of requests that wait, in no order."""
        return self._bands.keys()

    @property
    def next_deadline(self) -> float:
        """When somebody's budget ends; infinite if never."""
        return self._deadlines[0][0] if self._deadlines else math.inf

    @property
    def next_look(self) -> float:
        """When time alone makes a difference: a budget ends, or somebody may be tried again."""
        return min(self.next_deadline, self._retries[0][0] if self._retries else math.inf)

    @property
    def held(self) -> int:
        """Deadlines that are kept, those of requests that have left included."""
        return len(self._deadlines)

    def waiting(self, request_id: str) -> Waiting | None:
        found = self._by_id.get(request_id)
        return found[0] if found else None

    # -- who comes --------------------------------------------------------------------------------

    def offer(self, waiting: Waiting, now: float) -> list[Refusal]:
        """Take a request in. Returns who is refused for it: itself, or others of lower priority."""
        band = self._band(waiting.priority)
        if not band.has_room(waiting.size):
            return [self._full(waiting, f"the queue of priority {waiting.priority} is full", now)]
        displaced = self._make_room(waiting, now)
        if displaced is None:
            return [self._full(waiting, "the queue is full", now)]
        self._push(waiting, band)
        return displaced

    def put_back(self, waiting: Waiting, now: float) -> None:
        """It went and found no room after all: it waits on beside its lane, and is tried again.

        First after 20 ms, then after ever longer, a second at the most: a request that only fits
        on endpoints which are full would else be tried at whatever happens to the others.
        """
        band = self._band(waiting.priority)
        waiting.retry_at = now + min(FIRST_RETRY * 2.0**waiting.tries, LAST_RETRY)
        waiting.tries = min(waiting.tries + 1, 30)
        heappush(self._retries, (waiting.retry_at, waiting.number, waiting))
        self._push(waiting, band, aside=True)

    def _band(self, priority: int) -> Band:
        """The band of a priority; a new one is kept when somebody is in it."""
        return self._bands.get(priority) or Band(priority, self.settings.band(priority))

    def _push(self, waiting: Waiting, band: Band, *, aside: bool = False) -> None:
        self._bands[band.priority] = band
        waiting.subset = self._same_subset(waiting.request.subset)
        band.push(waiting, aside=aside)
        self._by_id[waiting.request.id] = waiting, band
        self.bytes += waiting.size
        if waiting.expires < math.inf:
            heappush(self._deadlines, (waiting.expires, waiting.number, waiting))

    def _same_subset(self, hint: SubsetHint | None) -> SubsetHint | None:
        """One object for hints that name the same endpoints, in whatever order.

        So a look at many lanes compares them at a glance: 100 of 100 endpoints in 0.7 ms, not in 6.
        """
        if hint is None:
            return None
        if len(self._subsets) >= MOST_SUBSETS:
            self._subsets.clear()
        return self._subsets.setdefault(frozenset(hint.members), hint)

    def _make_room(self, waiting: Waiting, now: float) -> list[Refusal] | None:
        """Send away the newest of the lowest bands below; None where that is not enough."""
        if self._fits(waiting.size, 0, 0):
            return []
        below = [band for band in self._bands.values() if band.priority < waiting.priority]
        most = sum(map(len, below)), sum(band.bytes for band in below)
        # Asked first: thousands who would stay all the same are not looked at one by one.
        if waiting.size > self.settings.max_bytes or not self._fits(waiting.size, *most):
            return None
        victims, size = list[Waiting](), 0
        for victim in self._lowest_first(waiting.priority):
            victims.append(victim)
            size += victim.size
            if self._fits(waiting.size, len(victims), size):
                break
        why = "a request of higher priority came"
        displaced = [self._full(victim, why, now) for victim in victims]
        for victim in victims:
            self._remove(victim)
        return displaced

    def _fits(self, size: int, fewer: int, smaller: int) -> bool:
        settings = self.settings
        if len(self) - fewer == 0:
            return True
        return (
            len(self) - fewer < settings.max_requests
            and self.bytes - smaller + size <= settings.max_bytes
        )

    def _lowest_first(self, below: int) -> Iterator[Waiting]:
        for priority in sorted(self._bands):
            if priority >= below:
                return
            yield from self._bands[priority].newest_first()

    def _full(self, waiting: Waiting, why: str, now: float) -> Refusal:
        after = self.drain.retry_after(self._ahead(waiting) + 1, now)
        if self._empty_pool:
            missing = QueueFullWithoutEndpoints(f"{why}, and no endpoint is ready", after)
            return Refusal(waiting, missing, Outcome.REJECTED_NO_ENDPOINTS)
        return Refusal(waiting, QueueFull(why, after), Outcome.REJECTED_CAPACITY)

    def _ahead(self, waiting: Waiting) -> int:
        """How many wait in its band and above."""
        return sum(len(b) for b in self._bands.values() if b.priority >= waiting.priority)

    # -- who goes ---------------------------------------------------------------------------------

    def next(
        self, levels: Levels, ceilings: Mapping[int, float], now: float
    ) -> tuple[Waiting, float] | None:
        """Who goes next, and how full an endpoint may be for it; it is taken out of the queue.

        Strictly the highest band of which somebody finds room: one that is held back stops nobody
        below it.
        """
        for band in self.bands:
            ceiling = ceilings.get(band.priority, 1.0)
            chosen = band.next(levels, ceiling, now)
            if chosen is not None:
                self._remove(chosen)
                return chosen, ceiling * band.settings.ordering.share(chosen, now)
        return None

    def in_need(self) -> Waiting | None:
        """Who has waited longest of the highest band, but for those set aside; None for nobody.

        What those set aside wait for is not just any endpoint.
        """
        if not self._bands:
            return None
        highest = self._bands[max(self._bands)]
        return next((waiting for waiting in highest if not waiting.tries), None)

    def withdraw(self, request_id: str) -> Waiting | None:
        """It waits no longer, nor does anything of it stay; None if it did not wait."""
        found = self._by_id.get(request_id)
        if found is None:
            return None
        self._remove(found[0])
        return found[0]

    def _remove(self, waiting: Waiting) -> None:
        _, band = self._by_id.pop(waiting.request.id)
        band.remove(waiting)
        self.bytes -= waiting.size
        if not band:
            del self._bands[band.priority]
        if not self._by_id:
            self._subsets.clear()
        if len(self._deadlines) > 2 * len(self._by_id) + 16:
            self._forget_deadlines()

    # -- time -------------------------------------------------------------------------------------

    def expire(self, now: float) -> list[Refusal]:
        """Everybody whose budget is used up."""
        while self._retries and self._retries[0][0] <= now:
            heappop(self._retries)
        refused = []
        while self._deadlines and self._deadlines[0][0] <= now:
            waiting = heappop(self._deadlines)[2]
            if self.waiting(waiting.request.id) is waiting and waiting.expires <= now:
                self._remove(waiting)
                refused.append(self._late(waiting, now))
        return refused

    def pool_is(self, empty: bool, now: float) -> None:
        """Whether there is no endpoint at all: then another budget holds, from now on."""
        if empty is self._empty_pool:
            return
        self._empty_pool = empty
        for waiting, _ in self._by_id.values():
            waiting.expires = self.expiry(waiting, now)
        self._forget_deadlines()

    def expiry(self, waiting: Waiting, now: float) -> float:
        """When its budget ends, if that begins now; however often it begins, some time it ends."""
        settings = self.settings
        whole = settings.ttl + settings.ttl_without_endpoints
        most = whole if waiting.asked is None else min(whole, waiting.asked)
        return min(now + self.budget(waiting.asked), waiting.since + most)

    def budget(self, asked: float | None) -> float:
        """Seconds a request may wait from now; it may ask for less, never for more."""
        settings = self.settings
        most = settings.ttl_without_endpoints if self._empty_pool else settings.ttl
        return most if asked is None else min(most, asked)

    def _late(self, waiting: Waiting, now: float) -> Refusal:
        seconds = f"waited {waiting.waited(now):.1f} s"
        if self._empty_pool:
            missing = ExpiredWithoutEndpoints(f"{seconds} for an endpoint; none is ready")
            return Refusal(waiting, missing, Outcome.EVICTED_NO_ENDPOINTS)
        after = self.drain.retry_after(self._ahead(waiting) + 1, now)
        return Refusal(waiting, Expired(f"{seconds} for a turn", after), Outcome.EVICTED_TTL)

    def _forget_deadlines(self) -> None:
        self._deadlines = [
            (w.expires, w.number, w) for w, _ in self._by_id.values() if w.expires < math.inf
        ]
        heapify(self._deadlines)

    # -- other rules ------------------------------------------------------------------------------

    def reconfigure(self, settings: FlowSettings) -> None:
        """Other settings: everybody keeps their place and budget, nobody is refused for them."""
        everybody = sorted((w for w, _ in self._by_id.values()), key=lambda w: w.number)
        self.settings = settings
        self._bands.clear()
        self._by_id.clear()
        self._deadlines.clear()
        self.bytes = 0
        for waiting in everybody:
            self._push(waiting, self._band(waiting.priority), aside=waiting.tries > 0)

    def empty(self) -> list[Waiting]:
        """Take everybody out, in the order of their arrival."""
        everybody = sorted((w for w, _ in self._by_id.values()), key=lambda w: w.number)
        for waiting in everybody:
            self._remove(waiting)
        return everybody
