"""Flow control: the machine's shell. One timer, one future for each request that waits.

Nothing runs while nobody waits. While somebody does, whatever may have made room (a request ended,
a scrape came, endpoints changed) leads to one look at the queue in the same turn of the loop. One
request is let go at a time: the next one is chosen when the first has been counted where it went.
"""

import asyncio
import math
from collections.abc import Awaitable, Iterable, Sequence
from time import perf_counter
from typing import Any, Protocol

from epp.admission.eviction import Eviction
from epp.admission.machine import Machine, Outcome, Refusal
from epp.admission.room import InSubset, Levels, Room
from epp.admission.settings import FlowSettings
from epp.datastore import Datastore
from epp.domain.clock import Clock
from epp.domain.headers import REQUEST_TTL_MS, first_of
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.domain.waiting import Waiting
from epp.domain.workload import workload_of
from epp.errors import BadRequest, Evicted
from epp.points import DispatchObserver


class FlowReports(Protocol):
    """Who is told what flow control did. Times in seconds."""

    def left(self, waiting: Waiting, outcome: Outcome, seconds: float) -> None:
        """A request went, or was refused, after so long in the queue."""
        ...

    def enqueued(self, waiting: Waiting, outcome: str, seconds: float) -> None:
        """Taking a request into the queue took so long."""
        ...

    def cycle(self, seconds: float) -> None:
        """One look at the queue took so long."""
        ...

    def evicted(self, request: Request) -> None:
        """A request that had been placed was taken back."""
        ...


class FlowControl:
    """Implements `epp.admission.gate.Gate`; outlives reloads of the configuration."""

    def __init__(
        self,
        settings: FlowSettings,
        observers: Sequence[DispatchObserver],
        store: Datastore,
        in_subset: InSubset,
        reports: FlowReports,
        clock: Clock,
        eviction: Eviction[Any] | None = None,
    ) -> None:
        self.machine = Machine(settings)
        self._observers = tuple(observers)
        self._room = Room(settings.detector, in_subset)
        self._in_subset = in_subset
        self._store = store
        self._reports = reports
        self._clock = clock
        self._eviction: Eviction[Any] = eviction or Eviction()
        self._count = 0
        self._futures: dict[str, asyncio.Future[None]] = {}
        self._turn: tuple[Waiting, float] | None = None
        """Who was let through last, and how full its endpoint may be."""
        self._levels: Levels | None = None
        """What was seen when it was let through at once."""
        self._released: Waiting | None = None
        """Who was woken and has not yet come to be placed."""
        self._open = False
        self._look: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        store.on_room(self.news)

    # -- the gate ---------------------------------------------------------------------------------

    def admit(self, request: Request, pool: PoolView) -> Awaitable[None] | None:
        now = self._clock()
        if self._turn is not None and self._turn[0].request is request:
            return self._take_back(self._turn[0], now)
        if self._open:
            return None
        waiting = self._waiting(request, now)
        levels = self._room.levels(pool)
        if not self.machine and self._released is None:
            ceiling = self._ceilings(levels, waiting)[request.priority]
            ceiling *= self.machine.settings.band(request.priority).ordering.share(waiting, now)
            if levels.of(request.subset) < ceiling:
                self._turn, self._levels = (waiting, ceiling), levels
                return None
        return self._queue(waiting, levels, pool, now)

    def room(self, request: Request, pool: PoolView) -> Mask | None:
        if self._turn is None or self._turn[0].request is not request or self._open:
            return None
        # What admission has just looked at is looked at once: nothing was placed since.
        mask = self._levels.mask(pool, self._turn[1]) if self._levels else None
        if mask is not None and mask.all():
            return None
        mask = self._room.mask(pool, self._turn[1])
        return None if mask.all() else mask

    def placed(self, request: Request, tokens: int) -> None:
        if self._turn is None or self._turn[0].request is not request:
            return
        waiting, now = self._turn[0], self._clock()
        self._turn = self._levels = None
        self.machine.drain.left(now)
        for observer in self._observers:
            observer.dispatched(waiting, tokens, now)
        self._reports.left(waiting, Outcome.DISPATCHED, waiting.waited(now))

    def left(self, request: Request) -> None:
        future = self._futures.pop(request.id, None)
        if future is not None and not future.cancel() and not future.cancelled():
            # Whatever it says has been heard, or there is nobody left to hear it.
            future.exception()
        if self._turn is not None and self._turn[0].request is request:
            self._turn = self._levels = None
        now = self._clock()
        if waiting := self.machine.withdraw(request.id):
            self._reports.left(waiting, Outcome.EVICTED_CANCELLED, waiting.waited(now))
        if self._released is not None and self._released.request is request:
            self._released = None
            if self.machine:
                self._release(self._store.view(), now)
        self._set_timer()

    # -- the house --------------------------------------------------------------------------------

    def news(self) -> None:
        """An endpoint may have got room: look at the queue, once in this turn of the loop."""
        if self.machine and self._look is None:
            self._look = asyncio.get_running_loop().call_soon(self._look_again)

    def reconfigure(self, settings: FlowSettings, observers: Iterable[DispatchObserver]) -> None:
        """Other settings; whoever waits keeps waiting under them."""
        self._open = False
        self._observers = tuple(observers)
        self._room = Room(settings.detector, self._in_subset)
        self.machine.reconfigure(settings)
        self.news()

    def open(self) -> None:
        """Flow control is switched off: let everybody go at once."""
        self._open = True
        now = self._clock()
        for waiting in self.machine.empty():
            self._reports.left(waiting, Outcome.DISPATCHED, waiting.waited(now))
            self._wake(waiting)
        self._set_timer()

    def levels(self) -> Levels:
        """How full the pool is, for a gauge."""
        return self._room.levels(self._store.view())

    @property
    def detector(self) -> str:
        """Type of the plugin that says so."""
        return str(getattr(self.machine.settings.detector, "type", ""))

    # -- who comes --------------------------------------------------------------------------------

    def _waiting(self, request: Request, now: float) -> Waiting:
        self._count += 1
        asked = asked_ttl(request)
        return Waiting(
            request,
            number=self._count,
            since=now,
            expires=now + self.machine.budget(asked),
            workload=workload_of(request.headers),
            asked=asked,
            flow=request.fairness_id,
            queue=request.fairness_id,
        )

    def _queue(
        self, waiting: Waiting, levels: Levels, pool: PoolView, now: float
    ) -> Awaitable[None] | None:
        began = perf_counter()
        self.machine.pool_is(not len(pool), now)
        waiting.expires = self.machine.expiry(waiting, now)
        for refusal in self.machine.offer(waiting, now):
            if refusal.waiting is waiting:
                self._reports.enqueued(waiting, refusal.outcome.value, perf_counter() - began)
                self._reports.left(waiting, refusal.outcome, 0.0)
                raise refusal.error
            self._refuse(refusal, now)
        self._reports.enqueued(waiting, "Queued", perf_counter() - began)
        if self._released is None and (turn := self._next(levels, now)):
            self._turn, self._levels = turn, None
            if turn[0] is waiting:
                return None
            self._released = turn[0]
            self._wake(turn[0])
        return self._wait(waiting)

    def _take_back(self, waiting: Waiting, now: float) -> Awaitable[None]:
        """Placing found no room for it."""
        self._turn = self._levels = None
        self.machine.put_back(waiting, now)
        if self._released is waiting:
            self._released = None
        if self._released is None:
            self._release(self._store.view(), now)
        return self._wait(waiting)

    def _wait(self, waiting: Waiting) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures[waiting.request.id] = future
        self._set_timer()
        return future

    # -- who goes ---------------------------------------------------------------------------------

    def _look_again(self) -> None:
        """Send away whose time is up, then let one go if there is room."""
        self._look = None
        now, pool = self._clock(), self._store.view()
        self.machine.pool_is(not len(pool), now)
        self._expire(now)
        self._release(pool, now)
        if self.machine.settings.eviction:
            self._evict(pool, now)
        self._set_timer()

    def _evict(self, pool: PoolView, now: float) -> None:
        """Nobody could go: take back who stands in the way of the highest band."""
        head = self.machine.in_need()
        if head is None or self._released is not None:
            return
        levels = self._room.levels(pool)
        ceiling = self._ceilings(levels)[head.priority]
        ceiling *= self.machine.settings.band(head.priority).ordering.share(head, now)
        after = self.machine.drain.retry_after(len(self.machine) + 1, now)
        why = Evicted("taken back for work of higher priority; try again", after)
        for request in self._eviction.make_room(head, levels, ceiling, why, now):
            self._reports.evicted(request)

    def _release(self, pool: PoolView, now: float) -> None:
        if self._released is not None or not self.machine:
            return
        if turn := self._next(self._room.levels(pool), now):
            self._turn, self._levels = turn, None
            self._released = turn[0]
            self._wake(turn[0])

    def _next(self, levels: Levels, now: float) -> tuple[Waiting, float] | None:
        began = perf_counter()
        turn = self.machine.next(levels, self._ceilings(levels), now)
        self._reports.cycle(perf_counter() - began)
        return turn

    def _ceilings(self, levels: Levels, newcomer: Waiting | None = None) -> dict[int, float]:
        settings = self.machine.settings
        priorities = {0, *settings.bands, *self.machine.priorities}
        if newcomer is not None:
            priorities.add(newcomer.priority)
        ordered = sorted(priorities, reverse=True) if len(priorities) > 1 else [*priorities]
        ceilings = settings.usage.ceilings(ordered, levels.saturation)
        return dict(zip(ordered, ceilings, strict=True))

    def _wake(self, waiting: Waiting) -> None:
        future = self._futures.get(waiting.request.id)
        if future is not None and not future.done():
            future.set_result(None)

    # -- time -------------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal, now: float) -> None:
        waiting = refusal.waiting
        self._reports.left(waiting, refusal.outcome, waiting.waited(now))
        future = self._futures.get(waiting.request.id)
        if future is not None and not future.done():
            future.set_exception(refusal.error)

    def _expire(self, now: float) -> None:
        for refusal in self.machine.expire(now):
            self._refuse(refusal, now)

    def _next_look(self) -> float:
        due = self.machine.next_look
        if self.machine.settings.eviction and (head := self.machine.in_need()):
            ready = self._eviction.due(head)
            # When that has passed, whatever changes among those that run is news.
            due = min(due, ready) if ready > self._clock() else due
        return due

    def _set_timer(self) -> None:
        due = self._next_look()
        if due == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = due
        if due < math.inf:
            delay = max(due - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self._look is None:
            self._look_again()


def asked_ttl(request: Request) -> float | None:
    """Seconds the client is ready to wait for a turn, by its header; None without one.

    Raises `BadRequest` for what is no number of milliseconds above 0.
    """
    if REQUEST_TTL_MS[0] not in request.headers:
        return None
    text = first_of(request.headers, REQUEST_TTL_MS) or ""
    if not text.isascii() or not text.isdigit() or len(text) > 12 or not int(text):
        raise BadRequest(f"header {REQUEST_TTL_MS[0]}: must be whole milliseconds above 0")
    return int(text) / 1000.0
