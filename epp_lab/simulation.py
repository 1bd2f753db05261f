"""One run: jobs arrive, are placed, computed and answered, all in virtual time.

    arrival -> placed, at once or after a wait -> network and frontend -> engine ... first token,
            last token -> network -> client, and the picker's ledger

Pages are scraped every `scrape_s`; a page is what the engine says at that moment and reaches the
datastore `scrape_delay_s` later.
"""

from __future__ import annotations

from asyncio import Future, ensure_future
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from epp.datastore import Sample
from epp.domain.endpoint import Endpoint
from epp.domain.pool import Ints, PoolView
from epp.domain.response import Ending, ResponseHead, ResponseMode
from epp.errors import Refused
from epp.ticket import PlacedTicket
from epp_lab.agenda import Agenda
from epp_lab.crowd import Crowd
from epp_lab.job import Job, engine_keys, prompt_of
from epp_lab.loop import VirtualLoop
from epp_lab.outcome import Outcome
from epp_lab.picker import LabPicker
from epp_lab.replica import Replica
from vllm_sim.engine import EngineConfig, Request, Sequence

OK: Final = ResponseHead(200, {})
ASK_AGAIN_S: Final = 1.0
"""How long a worker of a closed load rests after a refusal: what `Retry-After` says."""


@dataclass(frozen=True, slots=True)
class Member:
    """One replica: its engine, how fast it is and when it comes."""

    config: EngineConfig
    speed: float = 1.0
    joins_at: float = 0.0
    slows_at: float = 0.0
    """From when on `speed` holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The world around the picker; times in seconds."""

    members: tuple[Member, ...]
    scrape_s: float = 0.05
    scrape_delay_s: float = 0.002
    network_s: float = 0.0005
    """One way between the gateway and a replica."""
    frontend: bool = True
    """Whether HTTP, tokenizer and chat template cost time before the engine sees a request."""
    response: ResponseMode = ResponseMode.FULL
    levels: tuple[tuple[int, int], ...] = ()
    """Workers and requests of each stage of a closed load; empty: jobs come when they are due."""


@dataclass(slots=True, frozen=True)
class Visit:
    """One job at the picker's door."""

    job: Job
    number: int
    keys: list[int]
    tokens: int
    arrived: float


@dataclass(slots=True, eq=False)
class Trip:
    """One job on its way."""

    visit: Visit
    ticket: PlacedTicket
    replica: Replica
    placed: float
    first_at: float = -1.0


@dataclass(slots=True)
class Result:
    """What a run gives: an outcome for each job, in order of arrival."""

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    """Virtual time until the last answer."""


class Simulation:
    """A run of `jobs` under one policy. `run` may be called once."""

    def __init__(self, policy: str, jobs: Iterable[Job], setting: Setting, seed: int = 0) -> None:
        """`policy` is a baseline's name or a file. Raises UnknownPolicy or ConfigError."""
        self.agenda = Agenda()
        self._setting = setting
        self._loop = VirtualLoop(self.agenda)
        self._picker = LabPicker(policy, self.agenda, seed, setting.response)
        self._replicas: dict[str, Replica] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._numbered = 0
        self._open = 0
        self._join([member for member in setting.members if not member.joins_at])
        for member in setting.members:
            if member.joins_at:
                self.agenda.put(member.joins_at, self._join, [member])
        self._crowd = Crowd(list(jobs), setting.levels) if setting.levels else None
        for job in self._crowd.begin() if self._crowd else jobs:
            self._expect(job.arrival, job)
        self.agenda.put(0.0, self._scrape)

    def run(self) -> Result:
        """Until every job is answered or refused."""
        with self._loop.running():
            self.agenda.run(lambda: not self._open)
        ordered = [self._outcomes[number] for number in sorted(self._outcomes)]
        ordered.sort(key=lambda outcome: outcome.arrival)
        return Result(ordered, self.agenda.now)

    # -- the pool ---------------------------------------------------------------------------------

    def _join(self, members: Iterable[Member]) -> None:
        """Those that are there from the start come in one set, as from a source at start."""
        for member in members:
            self._add(member)
        everybody = [each.endpoint for each in self._replicas.values()]
        self._picker.store.set_endpoints("lab", everybody)

    def _add(self, member: Member) -> None:
        number = len(self._replicas)
        endpoint = Endpoint(
            name=f"replica-{number}",
            host=f"10.0.{number // 250}.{number % 250 + 1}",
            port=8000,
            uid=str(number),
            ready_since=self.agenda.now if member.joins_at else None,
        )
        replica = Replica(endpoint, member.config, self.agenda, self._first, self._last)
        self._replicas[endpoint.key] = replica
        self.agenda.put(member.slows_at, lambda _: replica.set_speed(member.speed))

    def _scrape(self, _: Any) -> None:
        """Read every page; none is read after the last job."""
        now, setting = self.agenda.now, self._setting
        pages = [(key, now, replica.sample()) for key, replica in self._replicas.items()]
        self.agenda.put(now + setting.scrape_delay_s, self._scraped, pages)
        self.agenda.put(now + setting.scrape_s, self._scrape)

    def _scraped(self, pages: list[tuple[str, float, Sample]]) -> None:
        for key, started, sample in pages:
            self._picker.store.scraped(key, started, sample, self._setting.scrape_s)

    # -- the way of a job -------------------------------------------------------------------------

    def _expect(self, at: float, job: Job) -> None:
        self._open += 1
        self.agenda.put(at, self._arrive, job)

    def _arrive(self, job: Job) -> None:
        self._numbered += 1
        number, prompt = self._numbered, prompt_of(job)
        keys = engine_keys(job, prompt, self._setting.members[0].config.block_size)

        def caches(pool: PoolView) -> Ints:
            found = [
                self._replicas[e.key].cached_tokens(keys, prompt.tokens) for e in pool.endpoints
            ]
            return np.array(found, dtype=np.int64)

        visit = Visit(job, number, keys, prompt.tokens, self.agenda.now)
        try:
            placed = self._picker.place(job, prompt, caches)
        except Refused as refusal:
            self._give_up(visit, refusal.reason or refusal.code)
            return
        if isinstance(placed, PlacedTicket):
            self._set_out(visit, placed)
        else:
            ensure_future(placed).add_done_callback(lambda future: self._decided(visit, future))

    def _decided(self, visit: Visit, future: Future[PlacedTicket]) -> None:
        """What waited in the picker goes, or is refused."""
        try:
            self._set_out(visit, future.result())
        except Refused as refusal:
            self._give_up(visit, refusal.reason or refusal.code)

    def _set_out(self, visit: Visit, ticket: PlacedTicket) -> None:
        """Headers come before prefill, as vLLM sends those of a stream."""
        ticket.response_started(OK)
        trip = Trip(visit, ticket, self._replicas[ticket.endpoint.key], self.agenda.now)
        self.agenda.put(self.agenda.now + self._way_there(trip), self._reach, trip)

    def _way_there(self, trip: Trip) -> float:
        setting = self._setting
        if not setting.frontend:
            return setting.network_s
        profile = setting.members[0].config.profile
        return setting.network_s + profile.frontend_delay_s(trip.visit.tokens)

    def _reach(self, trip: Trip) -> None:
        visit, job = trip.visit, trip.visit.job
        request = Request(
            id=str(visit.number),
            prompt_tokens=visit.tokens,
            output_tokens=job.output_tokens,
            keys=visit.keys,
            lora=job.model if job.adapter else None,
            tag=trip,
        )
        try:
            trip.replica.receive(request)
        except ValueError:
            trip.ticket.ended(Ending.COMPLETE)
            self._give_up(visit, why_not(trip, request), trip.replica.endpoint.name)

    def _first(self, seq: Sequence) -> None:
        self.agenda.put(seq.first_token_at + self._setting.network_s, self._first_seen, seq)

    def _first_seen(self, seq: Sequence) -> None:
        trip: Trip = seq.request.tag
        trip.first_at = self.agenda.now
        if self._setting.response is ResponseMode.FULL:
            trip.ticket.response_chunk(b".", False)

    def _last(self, seq: Sequence) -> None:
        self.agenda.put(seq.finished_at + self._setting.network_s, self._answered, seq)

    def _answered(self, seq: Sequence) -> None:
        trip: Trip = seq.request.tag
        trip.ticket.ended(Ending.COMPLETE)
        now = self.agenda.now
        self._close(trip.visit.number, answered(trip, seq, now))
        following = trip.visit.job.then
        if following is not None:
            self._expect(max(now + following.arrival, following.not_before), following)
        else:
            self._ask_next(0.0)

    def _ask_next(self, rest: float) -> None:
        """A worker of a closed load is free."""
        for job in self._crowd.ended() if self._crowd else ():
            self._expect(self.agenda.now + rest, job)

    def _give_up(self, visit: Visit, why: str, replica: str = "") -> None:
        """A refused turn ends its session."""
        job = visit.job
        outcome = Outcome(
            arrival=visit.arrived,
            tenant=job.tenant,
            priority=job.priority,
            criticality=job.criticality,
            prompt_tokens=job.prompt_tokens,
            output_tokens=job.output_tokens,
            replica=replica,
            waited=self.agenda.now - visit.arrived,
            refused=why,
        )
        self._close(visit.number, outcome)
        self._ask_next(ASK_AGAIN_S)

    def _close(self, number: int, outcome: Outcome) -> None:
        self._outcomes[number] = outcome
        self._open -= 1


def why_not(trip: Trip, request: Request) -> str:
    """Why an engine refuses a request."""
    slots = trip.replica.engine.config.max_loras
    return "too-long" if request.lora is None or slots else "no-lora-slots"


def answered(trip: Trip, seq: Sequence, now: float) -> Outcome:
    """The outcome of a trip whose last token has reached the client `now`."""
    visit = trip.visit
    return Outcome(
        arrival=visit.arrived,
        tenant=visit.job.tenant,
        priority=visit.job.priority,
        criticality=visit.job.criticality,
        prompt_tokens=visit.tokens,
        output_tokens=visit.job.output_tokens,
        replica=trip.replica.endpoint.name,
        cached_tokens=max(seq.cached_tokens, 0),
        waited=trip.placed - visit.arrived,
        ttft=trip.first_at - visit.arrived,
        e2e=now - visit.arrived,
        preemptions=seq.preemptions,
    )
