"""The picker in virtual time: the rooms that serve, under one clock."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog

from epp.admission import SheddingGate
from epp.assemble import assemble_text, bare_house
from epp.datastore import Datastore, StoreSettings
from epp.domain.clock import Clock
from epp.domain.path import Intake
from epp.domain.request import Head, Prompt, Request
from epp.domain.response import ResponseHead, ResponseMode
from epp.flow import gather, look_up, screen
from epp.plugins.catalog import CATALOGUE
from epp.scheduling.policy import Policy
from epp.ticket import Desk, PlacedTicket
from epp_lab.baselines import BASELINES, PLUGINS
from epp_lab.facts import CACHES, Caches
from epp_lab.job import Job

NO_HEAD: Final = Head({})
OK: Final = ResponseHead(200, {})
SILENT: Final = structlog.wrap_logger(
    None, processors=[], wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
)


class UnknownPolicy(ValueError):
    """Neither a baseline's name nor a file."""


def policy_text(name: str) -> str | None:
    """The configuration behind a baseline's name or a file; None for the built-in default.

    Raises UnknownPolicy with the names there are.
    """
    if name in BASELINES:
        return BASELINES[name].config
    path = Path(name)
    if path.is_file():
        return path.read_text(encoding="utf-8")
    known = ", ".join(BASELINES)
    raise UnknownPolicy(f"no baseline and no file is called {name!r}; baselines: {known}")


class Quiet:
    """Implements `epp.ticket.Reports`: the lab looks at requests from the outside."""

    def placed(self, *_: Any) -> None: ...

    def refused(self, *_: Any) -> None: ...

    def response_started(self, *_: Any) -> None: ...

    def first_chunk(self, *_: Any) -> None: ...

    def chunk_gap(self, *_: Any) -> None: ...

    def ended(self, *_: Any) -> None: ...


class LabPicker:
    """Places jobs as `epp.flow` places requests; what differs is that bodies are not read."""

    def __init__(self, policy: str, clock: Clock, seed: int, mode: ResponseMode) -> None:
        """`policy` as `policy_text` takes it. Raises UnknownPolicy or ConfigError."""
        self.store = Datastore(clock, clock, StoreSettings(), log=SILENT)
        self._clock = clock
        self._intake = Intake(NO_HEAD, b"", None, mode)
        self._desk = Desk(self.store, Quiet(), clock)
        self._placed = 0
        house = replace(
            bare_house(),
            clock=clock,
            random=random.Random(f"picker {seed}"),
            shelf=self.store.shelf,
            secret=b"lab",
            traced=False,
        )
        catalogue = CATALOGUE.plus(PLUGINS, "epp_lab")
        self.policy: Policy = assemble_text(policy_text(policy), policy, catalogue, house).policy
        self._gate = SheddingGate(self.policy.saturation)

    def place(self, job: Job, prompt: Prompt, caches: Caches) -> PlacedTicket:
        """The steps of `epp.flow.Flow` for a request that is read already. Raises Refused."""
        request = self._request(job, prompt)
        request.facts.put(CACHES, caches)
        if gather(self.policy, request) is not None:
            raise NotImplementedError("a producer of facts waits: the lab cannot replay that")
        self._gate.admit(request, self.store.view())
        pool = screen(self.policy, request, self.store.view())
        pool = look_up(self.policy, request, pool)
        for admitter in self.policy.admitters:
            admitter.admit(request, pool)
        decision = self.policy.scheduler.schedule(request, pool)
        ticket = PlacedTicket(self._desk, self.policy, self._intake, request, decision)
        ticket.hold(pool)
        ticket.response_started(OK)
        return ticket

    def _request(self, job: Job, prompt: Prompt) -> Request:
        self._placed += 1
        return Request(
            id=str(self._placed),
            head=NO_HEAD,
            kind="completions",
            model=job.model,
            target_model=job.model,
            stream=True,
            prompts=(prompt,),
            prompt_tokens=prompt.tokens,
            max_output_tokens=job.client_limit,
            fairness_id=job.tenant,
            priority=job.priority,
            arrived=self._clock(),
        )
