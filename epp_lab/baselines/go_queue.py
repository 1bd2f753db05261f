"""When a request may go by the rules of the Go picker: its saturation detector and its queue.

Its rules are kept where they are defects: gauges as scraped, old ones count as full, one mean for
the whole pool, a cycle that releases one request at the most and stops at the first band that may
not go, deadlines looked at once in a second, a wait that no client can shorten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from heapq import heappop, heappush
from typing import ClassVar, Final, TypeAlias

import numpy as np

from epp.admission.settings import FlowSettings
from epp.datastore import Datastore
from epp.domain.clock import Clock
from epp.domain.pool import PoolView
from epp.domain.request import Request
from epp.domain.waiting import Contender, Waiting
from epp.domain.workload import NO_WORKLOAD
from epp.errors import Expired, QueueFull
from epp_lab.baselines.raw_gauges import scraped

TICK_S: Final = 0.001
SWEEP_S: Final = 1.0
STALE_S: Final = 0.2
QUEUE_DEPTH: Final = 5.0
KV_THRESHOLD: Final = 0.8

Flow: TypeAlias = list[tuple[float, int, Waiting]]


class GoUtilizationDetector:
    """lab-go-utilization-detector: mean of max(waiting / 5, KV usage / 0.8); not fresh is 1."""

    type: ClassVar[str] = "lab-go-utilization-detector"

    def saturation(self, pool: PoolView) -> float:
        if not len(pool):
            return 1.0
        queue, memory = scraped(pool, "raw_waiting") / QUEUE_DEPTH, pool.kv_usage / KV_THRESHOLD
        known = pool.age <= STALE_S
        return float(np.where(known, np.maximum(queue, memory), 1.0).mean())


class GoQueue:
    """Implements `epp.admission.Gate`. A cycle on each arrival and on each tick of 1 ms."""

    def __init__(self, settings: FlowSettings, store: Datastore, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._bands: dict[int, dict[str, Flow]] = {}
        self._futures: dict[str, asyncio.Future[None]] = {}
        self._count = 0
        self._ticking = self._sweeping = False

    def admit(self, request: Request, pool: PoolView) -> Awaitable[None]:
        """Everybody goes through the queue. Raises QueueFull."""
        now, settings = self._clock(), self._settings
        band = self._bands.setdefault(request.priority, {})
        waiting_here = sum(map(len, band.values()))
        if (
            waiting_here >= settings.band(request.priority).max_requests
            or len(self._futures) >= settings.max_requests
        ):
            raise QueueFull("the queue is full")
        waiting = self._waiting(request, now)
        key = settings.band(request.priority).ordering.key(waiting)
        heappush(band.setdefault(waiting.flow, []), (key, waiting.number, waiting))
        future = self._futures[request.id] = asyncio.get_running_loop().create_future()
        self._cycle(now)
        self._set_timers()
        return future

    def room(self, request: Request, pool: PoolView) -> None:
        """It is placed anywhere."""

    def placed(self, request: Request, tokens: int) -> None:
        """Changes nothing."""

    def left(self, request: Request) -> None:
        """A released request is out of the queue already; in the lab no client leaves it."""

    def _waiting(self, request: Request, now: float) -> Waiting:
        self._count += 1
        return Waiting(
            request,
            number=self._count,
            since=now,
            expires=now + self._settings.ttl,
            workload=NO_WORKLOAD,
            flow=request.fairness_id,
            queue=request.fairness_id,
        )

    def _cycle(self, now: float) -> None:
        """Release one request of the highest band, unless that one may not go: then nobody may."""
        priorities = sorted((p for p, flows in self._bands.items() if flows), reverse=True)
        if not priorities:
            return
        detector, usage = self._settings.detector, self._settings.usage
        saturation = detector.saturation(self._store.view())
        top = priorities[0]
        if saturation >= usage.ceilings(priorities, saturation)[0]:
            return
        flows = self._bands[top]
        heads = [Contender(flow, heap[0][2], heap[0][0]) for flow, heap in flows.items()]
        fairness = self._settings.band(top).fairness
        chosen = heads[fairness.choose(top, heads, now)].flow
        released = heappop(flows[chosen])[2]
        if not flows[chosen]:
            del flows[chosen]
        self._futures.pop(released.request.id).set_result(None)

    def _set_timers(self) -> None:
        if not self._futures:
            return
        loop = asyncio.get_running_loop()
        if not self._ticking:
            self._ticking = True
            loop.call_later(TICK_S, self._tick)
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(SWEEP_S, self._sweep)

    def _tick(self) -> None:
        self._ticking = False
        self._cycle(self._clock())
        self._set_timers()

    def _sweep(self) -> None:
        self._sweeping = False
        now = self._clock()
        for flows in self._bands.values():
            for name in list(flows):
                late = [entry for entry in flows[name] if entry[2].expires <= now]
                flows[name] = sorted(entry for entry in flows[name] if entry[2].expires > now)
                if not flows[name]:
                    del flows[name]
                for _, _, waiting in late:
                    error = Expired("waited too long for a turn")
                    self._futures.pop(waiting.request.id).set_exception(error)
        self._set_timers()
