"""The way of a request, on one page.

Read `Flow.decide` from top to bottom: each line is a step, named for what it adds. Steps go forward
only: nothing before admission needs a match, nothing after it waits. A request that need not wait
makes no task. What follows the placing is on the ticket (`ticket.py`).
"""

from asyncio import ensure_future, timeout
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from secrets import token_hex
from typing import Protocol, TypeAlias

import msgspec

from epp.admission import Gate
from epp.domain.decision import Decision
from epp.domain.headers import PREFER
from epp.domain.path import Intake, Ticket
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.domain.response import Ending
from epp.errors import NoEndpoints, NotCached, Refused
from epp.plugins.columns import PREFIX_TOKENS
from epp.points import FactProducer
from epp.request.reader import RequestReader, carries_model, check_model
from epp.scheduling.policy import Policy
from epp.scheduling.subset import in_subset
from epp.ticket import Desk, PlacedTicket
from epp.tokens.counting import counted

PATIENCE_SECONDS = 0.4
"""How long a request waits for a producer of facts that does not name its own `patience`."""

Turn: TypeAlias = Awaitable[None] | None
"""What a request waits for at the gate; None if it need not."""


class Objectives(Protocol):
    """Priorities by the name of an objective."""

    def priority(self, objective: str) -> int:
        """0 for a name nobody knows."""
        ...


class Rewrites(Protocol):
    """Model rewrite rules."""

    def target(self, model: str) -> str | None:
        """What the model server is asked for instead of `model`; None without a matching rule."""
        ...


class Shedder(Protocol):
    """Knows when the picker itself is at its ceiling."""

    def check(self) -> None:
        """Raises `Overloaded` when a new request would be answered too late."""
        ...


@dataclass(slots=True, frozen=True)
class Rules:
    """What a request is looked up in on its way."""

    objectives: Objectives
    rewrites: Rewrites
    obey_subset: bool = True
    """Whether the gateway's subset hint is followed."""


@dataclass(slots=True, frozen=True)
class Setup:
    """What a reload of the configuration exchanges as one: reader, gate and plugins."""

    reader: RequestReader
    gate: Gate
    policy: Policy


class Flow:
    """Places requests. One for the process; `setup` may be exchanged between two requests."""

    def __init__(self, setup: Setup, rules: Rules, desk: Desk, shed: Shedder) -> None:
        self.setup = setup
        self._rules = rules
        self._desk = desk
        self._store = desk.store
        self._clock = desk.clock
        self._shed = shed
        # A number behind 80 random bits of the process's own: 0.4 us, a UUID each time 2.6 us.
        self._new_id = map(f"{token_hex(10)}{{:012x}}".format, count()).__next__
        self.waiting: dict[str, Request] = {}
        """Requests that wait for facts or for admission, by our id; for the debug page."""

    def decide(self, intake: Intake) -> Ticket | Awaitable[Ticket]:
        """Place a request. Raises `Refused`, at once or from the awaitable."""
        arrived = self._clock()
        setup = self.setup
        request: Request | None = None
        try:
            self._shed.check()
            request = setup.reader.read(intake, self._new_id(), arrived)
            request = self._rewrite(request)
            check_model(request)
            request = self._rank(request)
            visit = Visit(setup, request, intake)
            if waiting := gather(setup.policy, request):
                return self._later(visit, facts=waiting)
            if (request := counted(request)) is not visit.request:
                visit = Visit(setup, request, intake)
            view = self._store.view()
            turn = setup.gate.admit(request, view)
            if turn is None:
                if ticket := self._place(visit, view):
                    return ticket
                turn = setup.gate.admit(request, view)
            return self._later(visit, turn=turn)
        except Refused as refusal:
            self._desk.reports.refused(request, refusal, self._clock() - arrived, intake.head)
            raise

    def _later(
        self, visit: "Visit", *, facts: Awaitable[None] | None = None, turn: Turn = None
    ) -> Awaitable[Ticket]:
        """Go on where the request has to wait."""
        task = ensure_future(self._decide_later(visit, facts, turn))
        # A task that is cancelled before its first step never comes to its `finally`.
        task.add_done_callback(lambda _: visit.setup.gate.left(visit.request))
        return task

    async def _decide_later(
        self, visit: "Visit", facts: Awaitable[None] | None, turn: Turn
    ) -> Ticket:
        """The same steps after a wait for facts or for a turn; no room after all: a turn again."""
        request, gate = visit.request, visit.setup.gate
        self.waiting[request.id] = request
        try:
            if facts is not None:
                await facts
                request = self.waiting[request.id] = counted(request)
                visit = Visit(visit.setup, request, visit.intake)
                turn = gate.admit(request, self._store.view())
            while True:
                if turn is not None:
                    await turn
                if ticket := self._place(visit, self._store.view()):
                    return ticket
                turn = gate.admit(request, self._store.view())
        except Refused as refusal:
            self._desk.reports.refused(request, refusal, self._clock() - request.arrived)
            raise
        finally:
            del self.waiting[request.id]
            gate.left(request)

    def _rewrite(self, request: Request) -> Request:
        """A rule for the incoming model beats the client's rewrite header."""
        if not carries_model(request.kind):
            return request
        target = self._rules.rewrites.target(request.model)
        if target is None or target == request.target_model:
            return request
        return msgspec.structs.replace(request, target_model=target)

    def _rank(self, request: Request) -> Request:
        """Look up the priority of the request's objective."""
        priority = self._rules.objectives.priority(request.objective) if request.objective else 0
        return msgspec.structs.replace(request, priority=priority) if priority else request

    def _place(self, visit: "Visit", view: PoolView) -> Ticket | None:
        """Everything that is done against one view of the pool; nothing in here waits.

        None where endpoints would do, but none of them has room now.
        """
        began = self._clock()
        request, policy, gate = visit.request, visit.setup.policy, visit.setup.gate
        pool = screen(policy, request, view, obey_subset=self._rules.obey_subset)
        pool = look_up(policy, request, pool)
        for admitter in policy.admitters:
            admitter.admit(request, pool)
        decision = choose(policy, request, pool, gate.room(request, pool))
        if decision is None:
            return None
        check_cached(request, pool, decision)
        ticket = PlacedTicket(self._desk, policy, visit.intake, request, decision)
        try:
            gate.placed(request, ticket.hold(pool))
            self._desk.reports.placed(request, decision, self._clock() - began)
        except BaseException:
            # Nobody else knows of this ticket yet: what it holds is given back here.
            ticket.ended(Ending.FAULT)
            raise
        return ticket


class Visit(msgspec.Struct, frozen=True):
    """One request on its way, with the setup it came in under."""

    setup: Setup
    request: Request
    intake: Intake


def gather(policy: Policy, request: Request) -> Awaitable[None] | None:
    """Let producers find out about the request; an awaitable if one of them has to wait."""
    producers = iter(policy.fact_producers)
    for producer in producers:
        if waiting := producer.gather(request):
            return _gather_rest(producer, waiting, producers, request)
    return None


async def _gather_rest(
    first: FactProducer,
    waiting: Awaitable[None],
    others: Iterator[FactProducer],
    request: Request,
) -> None:
    """Wait for the first, run the others in order."""
    await _patiently(first, waiting)
    for producer in others:
        if more := producer.gather(request):
            await _patiently(producer, more)


async def _patiently(producer: FactProducer, waiting: Awaitable[None]) -> None:
    """What takes longer than the producer's patience costs its facts, never the request."""
    with suppress(TimeoutError):
        async with timeout(getattr(producer, "patience", PATIENCE_SECONDS)):
            await waiting


def screen(
    policy: Policy, request: Request, pool: PoolView, *, obey_subset: bool = True
) -> PoolView:
    """The endpoints this request may use at all. Raises `NoEndpoints` when none is left."""
    if not len(pool):
        raise NoEndpoints("no endpoint of the pool is ready")
    if obey_subset and request.subset is not None:
        pool = pool.take(in_subset(request.subset, pool))
        if not len(pool):
            raise NoEndpoints("no endpoint of the gateway's subset is ready in this pool")
    for screener in policy.screeners:
        pool = pool.take(screener.screen(request, pool))
        if not len(pool):
            raise NoEndpoints("screeners ruled out every endpoint")
    return pool


def look_up(policy: Policy, request: Request, pool: PoolView) -> PoolView:
    """Facts of the pool for this request: prefix matches, predictions."""
    for producer in policy.pool_producers:
        pool = pool.having(producer.columns(request, pool))
    return pool


def choose(policy: Policy, request: Request, pool: PoolView, room: Mask | None) -> Decision | None:
    """Where the request goes, of the endpoints with `room`; None if only others would do.

    Raises `NoEndpoints` when none would.
    """
    if room is None:
        return policy.scheduler.schedule(request, pool)
    try:
        return policy.scheduler.schedule(request, pool.take(room))
    except NoEndpoints:
        policy.scheduler.schedule(request, pool)
        return None


def check_cached(request: Request, pool: PoolView, decision: Decision) -> None:
    """`Prefer: if-available` asks for an answer from a warm cache or none at all.

    Raises `NotCached` where nothing of the prompt is known to be cached at the endpoint picked.
    """
    if PREFER not in request.headers or not prefers_available(request.headers[PREFER]):
        return
    cached, row = pool.get(PREFIX_TOKENS), pool.row(decision.endpoint)
    if cached is None or row is None or not cached[row]:
        raise NotCached("nothing of this prompt is cached at the endpoint that would answer it")


def prefers_available(preferences: str) -> bool:
    """Whether `if-available` is among them (RFC 7240: a list, parameters after a semicolon)."""
    said = (each.partition(";")[0].strip().lower() for each in preferences.split(","))
    return "if-available" in said
