"""A placed request, until its response is over.

The second half of the request path: a ticket holds the endpoint's load in the ledger, lets plugins
see the response, and settles everything exactly once, however the request ends.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

import msgspec
import structlog

from epp.datastore.ledger import Reservation
from epp.datastore.store import Datastore
from epp.domain.clock import Clock
from epp.domain.decision import Decision
from epp.domain.endpoint import Endpoint
from epp.domain.headers import (
    ENDPOINT_SHOWN,
    NO_CHANGES,
    REASON_SHOWN,
    SCORES,
    WORKLOAD,
    WORKLOAD_ID_SHOWN,
    HeaderChanges,
)
from epp.domain.path import Intake, Json
from epp.domain.pool import PoolView
from epp.domain.request import Dialect, Head, Request
from epp.domain.response import Ending, ResponseHead, ResponseMode, Usage
from epp.domain.workload import workload_of
from epp.errors import Refused
from epp.request.grpc import status_of
from epp.request.response import ResponseBody, response_body_for
from epp.request.rewrite import rewrite_model
from epp.scheduling.policy import Policy
from epp.scheduling.reason import in_words

NOTHING_TOLD: Final[Mapping[str, Mapping[str, Json]]] = {}


class Reports(Protocol):
    """Who is told what became of requests: metrics, logs, decision records. Times in seconds."""

    def placed(self, request: Request, decision: Decision, seconds: float) -> None: ...

    def refused(
        self,
        request: Request | None,
        refusal: Refused,
        seconds: float,
        head: Head | None = None,
    ) -> None: ...

    def response_started(
        self, request: Request, decision: Decision, status: int, seconds: float
    ) -> None: ...

    def first_chunk(self, request: Request, decision: Decision, seconds: float) -> None: ...

    def chunk_gap(self, request: Request, seconds: float) -> None: ...

    def ended(self, request: Request, decision: Decision, outcome: "Outcome") -> None: ...


class Outcome(msgspec.Struct, frozen=True):
    """How a placed request ended: status 0 if no response headers came, sizes in bytes."""

    ending: Ending
    status: int
    duration: float
    usage: Usage | None
    response_bytes: int
    mode: ResponseMode


@dataclass(slots=True, frozen=True)
class Shown:
    """What is shown to clients and gateways by choice."""

    endpoint: bool = False
    """Response headers `x-epp-endpoint` and `x-epp-reason`."""
    scores: bool = False
    """Scores of the primary profile in the dynamic metadata."""


def log_fault(error: Exception) -> None:
    """One line that says where, never what was being read: it may quote an answer."""
    trace = "".join(traceback.format_tb(error.__traceback__))
    structlog.get_logger("epp.ticket").error(
        "response reader dropped", error=type(error).__name__, trace=trace
    )


@dataclass(slots=True, frozen=True)
class Desk:
    """What every ticket needs of the house."""

    store: Datastore
    reports: Reports
    clock: Clock
    shown: Shown = Shown()
    on_fault: Callable[[Exception], None] = log_fault
    """Hears what a reader of responses raised, once for each response."""
    open: dict[str, "PlacedTicket"] = field(default_factory=dict)
    """Placed requests whose responses are not over, by our id; for the debug page."""


class PlacedTicket:
    """Implements `epp.domain.path.Ticket`."""

    __slots__ = (
        "_body",
        "_decision",
        "_desk",
        "_last_chunk",
        "_mode",
        "_over",
        "_policy",
        "_request",
        "_reservation",
        "_response_bytes",
        "_status",
        "body",
        "changes",
    )

    def __init__(
        self, desk: Desk, policy: Policy, intake: Intake, request: Request, decision: Decision
    ) -> None:
        self._desk = desk
        self._policy = policy
        self._mode = intake.mode
        self._request = request
        self._decision = decision
        self._reservation: Reservation | None = None
        self._body: ResponseBody | None = None
        self._last_chunk: float | None = None
        self._response_bytes = 0
        self._status = 0
        self._over = False
        self.body = _rewritten(intake.body, request)
        self.changes = NO_CHANGES

    def hold(self, pool: PoolView) -> int:
        """Count the request against its endpoint and tell plugins of the pick.

        Returns the prompt tokens that are counted: those the endpoint has to compute.
        """
        tokens = uncached_tokens(self._request, pool, self._decision.endpoint)
        self._desk.open[self._request.id] = self
        self._reservation = self._desk.store.reserve(
            self._decision.endpoint,
            tokens=tokens,
            request_id=self._request.id,
            drain=self._mode is not ResponseMode.FULL or not self._request.stream,
        )
        for observer in self._policy.pick_observers:
            self._merge(observer.picked(self._request, pool, self._decision))
        return tokens

    def sent(self) -> None:
        """The request has left: nothing of its body is kept while its response goes on."""
        self.body = None
        self._request = msgspec.structs.replace(self._request, prompts=(), body=b"")

    @property
    def request(self) -> Request:
        return self._request

    @property
    def endpoint(self) -> Endpoint:
        """Where its load is counted: the pick, or what the gateway used instead."""
        return self._reservation.endpoint if self._reservation else self._decision.endpoint

    @property
    def status(self) -> int:
        """Of the response; 0 until its headers have come."""
        return self._status

    @property
    def since(self) -> float:
        """When it was placed, in seconds of the datastore's clock."""
        return self._reservation.since if self._reservation else self._request.arrived

    @property
    def first_token_seen(self) -> bool:
        return self._last_chunk is not None

    @property
    def destination(self) -> str:
        return self._decision.destination

    @property
    def metadata(self) -> Mapping[str, Json]:
        if not self._desk.shown.scores:
            return {}
        primary = self._decision.primary
        scores = {e.address: t for e, t in zip(primary.picked, primary.totals, strict=False)}
        return {SCORES: cast("dict[str, Json]", scores)}

    def response_started(self, head: ResponseHead) -> HeaderChanges:
        """Note the status, correct the ledger if another endpoint answered, ask plugins."""
        # What HTTP alone says is not looked up: in watch mode nobody reads the headers else.
        is_grpc = self._request.dialect is Dialect.GRPC
        self._status = status = status_of(head) if is_grpc else head.status
        if head.served and self._reservation and head.served != self.destination:
            self._reservation.served_by(head.served)
        seconds = self._desk.clock() - self._request.arrived
        self._desk.reports.response_started(self._request, self._decision, status, seconds)
        shown = self._shown()
        changes = HeaderChanges(set=shown) if shown else NO_CHANGES
        if self._mode is ResponseMode.FULL:
            self._body = response_body_for(self._request, head, wants_usage=True)
            changes = _both(changes, self._body.changes if self._body else None)
        for observer in self._policy.response_observers:
            changes = _both(changes, observer.response_started(self._request, self._decision, head))
        return changes

    def response_chunk(self, data: bytes, end: bool) -> bytes:
        """The first piece means that prefill is done."""
        if data:
            self._time_chunk(self._desk.clock())
        self._response_bytes += len(data)
        return self._read(data, end) if self._body else data

    def response_metadata(self) -> Mapping[str, Mapping[str, Json]]:
        """What reporters make of the token counts; nothing where no counts came."""
        reporters = self._policy.reporters
        usage = self._body.usage if reporters and self._body else None
        if usage is None:
            return NOTHING_TOLD
        told: dict[str, dict[str, Json]] = {}
        for reporter in reporters:
            report = reporter.report(self._request, self._decision, usage)
            for namespace, values in report.items():
                told.setdefault(namespace, {}).update(values)
        return told

    def _time_chunk(self, now: float) -> None:
        last, self._last_chunk = self._last_chunk, now
        if last is None:
            if self._reservation:
                self._reservation.first_token()
            self._desk.reports.first_chunk(
                self._request, self._decision, now - self._request.arrived
            )
        elif self._request.stream:
            self._desk.reports.chunk_gap(self._request, now - last)

    def _read(self, data: bytes, end: bool) -> bytes:
        """Through the reader of the body; one that fails is dropped, and nothing is lost by it."""
        body = self._body
        assert body is not None
        try:
            return body.feed(data, end)
        except Exception as error:  # noqa: BLE001 - a bug of ours is no reason to cut an answer
            self._body = None
            self._desk.on_fault(error)
            return body.owed()

    def ended(self, ending: Ending) -> None:
        """Free the endpoint, then tell everybody; a second call does nothing."""
        if self._over:
            return
        self._over = True
        self._desk.open.pop(self._request.id, None)
        if ending is Ending.COMPLETE and self._status >= 500:
            ending = Ending.UPSTREAM_ERROR
        if self._reservation:
            # No headers are no status: a client that left says nothing good of the endpoint.
            self._reservation.release(ending, self._status or None)
        usage = self._body.usage if self._body else None
        if usage:
            for reader in self._policy.usage_readers:
                reader.used(self._request, self._decision, usage)
        for observer in self._policy.end_observers:
            observer.ended(self._request, self._decision, ending)
        self._desk.reports.ended(self._request, self._decision, self._outcome(ending, usage))

    def _outcome(self, ending: Ending, usage: Usage | None) -> Outcome:
        return Outcome(
            ending=ending,
            status=self._status,
            duration=self._desk.clock() - self._request.arrived,
            usage=usage,
            response_bytes=self._response_bytes,
            mode=self._mode,
        )

    def _merge(self, changes: HeaderChanges | None) -> None:
        self.changes = _both(self.changes, changes)

    def _shown(self) -> Mapping[str, str]:
        shown = {}
        headers = self._request.headers
        if WORKLOAD[0] in headers and (workload := workload_of(headers).id):
            shown[WORKLOAD_ID_SHOWN] = workload
        if self._desk.shown.endpoint:
            shown[ENDPOINT_SHOWN] = self._decision.endpoint.address
            shown[REASON_SHOWN] = in_words(self._decision)
        return shown


def uncached_tokens(request: Request, pool: PoolView, endpoint: Endpoint) -> int:
    """Prompt tokens the endpoint has to compute, as far as a prefix producer knows."""
    cached = pool.get("prefix_tokens")
    if cached is None:
        return request.prompt_tokens
    row = pool.row(endpoint)
    return (
        request.prompt_tokens if row is None else max(request.prompt_tokens - int(cached[row]), 0)
    )


def _rewritten(body: bytes, request: Request) -> bytes | None:
    if not body or request.target_model == request.model:
        return None
    return rewrite_model(body, request.target_model)


def _both(first: HeaderChanges, second: HeaderChanges | None) -> HeaderChanges:
    if second is None or not (second.set or second.remove):
        return first
    return HeaderChanges(set={**first.set, **second.set}, remove=first.remove + second.remove)
