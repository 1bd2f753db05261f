"""The picker in virtual time: the rooms that serve, under one clock."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import structlog

from epp.admission import FlowControl, Gate, SheddingGate
from epp.admission.build import dispatch_observers, flow_settings
from epp.assemble import Assembly, House, assemble_text, bare_house
from epp.datastore import Datastore, StoreSettings
from epp.domain.clock import Clock
from epp.domain.headers import WORKLOAD
from epp.domain.path import Intake
from epp.domain.request import Head, Prompt, Request
from epp.domain.response import ResponseMode
from epp.domain.workload import USUAL
from epp.flow import Flow, Rules, Setup
from epp.plugins.catalog import CATALOGUE
from epp.request.reader import RequestReader
from epp.scheduling.subset import in_subset
from epp.ticket import Desk, PlacedTicket
from epp_lab.baselines import GO_QUEUES, PLUGINS, POLICIES
from epp_lab.baselines.go_queue import GoQueue
from epp_lab.facts import CACHES, Caches
from epp_lab.job import Job

NO_HEAD: Final = Head({})
TOKEN_BYTES: Final = 4
"""What a token of a prompt counts against limits of bytes."""
SILENT: Final = structlog.wrap_logger(
    None, processors=[], wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
)


class UnknownPolicy(ValueError):
    """Neither a baseline's name nor a file."""


def policy_text(name: str) -> str | None:
    """The configuration behind a baseline's name or a file; None for the built-in default.

    Raises UnknownPolicy with the names there are.
    """
    if name in POLICIES:
        return POLICIES[name].config
    path = Path(name)
    if path.is_file():
        return path.read_text(encoding="utf-8")
    known = ", ".join(POLICIES)
    raise UnknownPolicy(f"no baseline and no file is called {name!r}; baselines: {known}")


class Unheard:
    """Implements `epp.admission.FlowReports`, likewise."""

    def left(self, *_: Any) -> None: ...

    def enqueued(self, *_: Any) -> None: ...

    def cycle(self, *_: Any) -> None: ...

    def evicted(self, *_: Any) -> None: ...


class Quiet:
    """Implements `epp.ticket.Reports`: the lab looks at requests from the outside."""

    def placed(self, *_: Any) -> None: ...

    def refused(self, *_: Any) -> None: ...

    def response_started(self, *_: Any) -> None: ...

    def first_chunk(self, *_: Any) -> None: ...

    def chunk_gap(self, *_: Any) -> None: ...

    def ended(self, *_: Any) -> None: ...


class Unread(RequestReader):
    """Hands out requests that need not be read, as `LabPicker` puts them there."""

    def __init__(self) -> None:
        super().__init__(())
        self.next: Request | None = None

    def read(self, intake: Intake, request_id: str, now: float) -> Request:
        request, self.next = self.next, None
        assert request is not None
        return request


class NoRules:
    """Implements `Objectives`, `Rewrites` and `Shedder` of `epp.flow`: there are none."""

    def priority(self, objective: str) -> int:
        return 0

    def target(self, model: str) -> None:
        """No model is called otherwise."""

    def check(self) -> None:
        """Virtual time never runs late."""


class LabPicker:
    """`epp.flow.Flow` as it serves; what differs is that bodies are not read."""

    def __init__(self, policy: str, clock: Clock, seed: int, mode: ResponseMode) -> None:
        """`policy` as `policy_text` takes it. Raises UnknownPolicy or ConfigError."""
        self.store = Datastore(clock, clock, StoreSettings(), log=SILENT)
        self._clock = clock
        self._intake = Intake(NO_HEAD, b"", None, mode)
        self._placed = 0
        self._reader = Unread()
        assembly = assemble_text(
            policy_text(policy),
            policy,
            CATALOGUE.plus(PLUGINS, "epp_lab"),
            self._house(clock, seed),
        )
        self.gate = gate_of(policy, assembly, self.store, clock)
        setup = Setup(self._reader, self.gate, assembly.policy)
        desk = Desk(self.store, Quiet(), clock)
        self._flow = Flow(setup, Rules(NoRules(), NoRules()), desk, NoRules())

    def place(
        self, job: Job, prompt: Prompt, caches: Caches
    ) -> PlacedTicket | Awaitable[PlacedTicket]:
        """What `Flow.decide` says; an awaitable belongs to the loop that runs. Raises Refused."""
        request = self._request(job, prompt)
        request.facts.put(CACHES, caches)
        self._reader.next = request
        return cast("PlacedTicket | Awaitable[PlacedTicket]", self._flow.decide(self._intake))

    def _house(self, clock: Clock, seed: int) -> House:
        return replace(
            bare_house(),
            clock=clock,
            random=random.Random(f"picker {seed}"),
            shelf=self.store.shelf,
            secret=b"lab",
            traced=False,
        )

    def _request(self, job: Job, prompt: Prompt) -> Request:
        self._placed += 1
        return Request(
            id=str(self._placed),
            head=_head(job),
            kind="completions",
            model=job.model,
            target_model=job.model,
            stream=True,
            prompts=(prompt,),
            prompt_tokens=prompt.tokens,
            max_output_tokens=job.client_limit,
            fairness_id=job.tenant,
            priority=job.priority,
            body_size=prompt.tokens * TOKEN_BYTES,
            arrived=self._clock(),
        )


def gate_of(policy: str, assembly: Assembly, store: Datastore, clock: Clock) -> Gate:
    """The gate that the configuration asks for; that of a baseline where it has its own."""
    settings = flow_settings(assembly.plan, assembly.instances)
    if settings is None:
        return SheddingGate(assembly.policy.saturation)
    if policy in GO_QUEUES:
        return GoQueue(settings, store, clock)
    observers = dispatch_observers(assembly.plan, assembly.instances)
    return FlowControl(settings, observers, store, in_subset, Unheard(), clock)


def _head(job: Job) -> Head:
    if not job.workload and job.criticality == USUAL:
        return NO_HEAD
    said = {"workload_id": job.workload, "criticality": job.criticality}
    return Head({WORKLOAD[0]: msgspec.json.encode(said).decode()})
