"""The life of a request, told once and passed on: to metrics, logs, records and spans.

What the request path knows as its reports. Nothing here decides anything or raises.
"""

from collections.abc import Callable

from epp.domain.clock import Clock
from epp.domain.decision import Decision
from epp.domain.request import Head, Request
from epp.errors import Refused
from epp.observe.decisions import DecisionLog
from epp.observe.logs import RefusalLog
from epp.observe.request_metrics import Outcome, RequestMetrics
from epp.observe.tracing import SPANS, RequestTracer


class RequestReports:
    """Passes each moment of a request on to those who watch. Times in seconds."""

    def __init__(
        self,
        metrics: RequestMetrics,
        refusals: RefusalLog,
        decisions: DecisionLog,
        *,
        clock: Clock,
        tracer: RequestTracer | None = None,
        scheduled: Callable[[float], None] | None = None,
    ) -> None:
        """`scheduled` hears the seconds each placing took."""
        self._metrics = metrics
        self._refusals = refusals
        self._decisions = decisions
        self._clock = clock
        self._tracer = tracer
        self._scheduled = scheduled

    def placed(self, request: Request, decision: Decision, seconds: float) -> None:
        """A request was given an endpoint; `seconds` is what placing it took."""
        self._metrics.placed(request, decision, seconds)
        self._metrics.answered(self._clock() - request.arrived)
        self._decisions.placed(request, decision, seconds)
        if self._scheduled is not None:
            self._scheduled(seconds)
        if spans := request.facts.get(SPANS):
            spans.placed(decision)

    def refused(
        self,
        request: Request | None,
        refusal: Refused,
        seconds: float,
        head: Head | None = None,
    ) -> None:
        """A request was answered by the picker, `seconds` after it came.

        None if its body could not be read: then `head` is what there is of it.
        """
        self._metrics.refused(request, refusal, seconds)
        self._refusals.refused(request, refusal, seconds, head)
        self._decisions.refused(request, refusal, seconds)
        if self._tracer is not None and request is not None:
            self._tracer.refused(request, refusal)

    def turned_away(self, refusal: Refused, head: Head | None) -> None:
        """A request was answered before it was read; of it there is no more than its head."""
        self.refused(None, refusal, 0.0, head)

    def response_started(
        self, request: Request, decision: Decision, status: int, seconds: float
    ) -> None:
        """Response headers came, `seconds` after the request."""
        self._metrics.response_started(request, decision, status, seconds)

    def first_chunk(self, request: Request, decision: Decision, seconds: float) -> None:
        """The first piece of the response body came (full mode only)."""
        self._metrics.first_chunk(request, decision, seconds)

    def chunk_gap(self, request: Request, seconds: float) -> None:
        """A further piece of a streamed response came, `seconds` after the one before."""
        self._metrics.chunk_gap(request, seconds)

    def ended(self, request: Request, decision: Decision, outcome: Outcome) -> None:
        """A placed request is over."""
        self._metrics.ended(request, decision, outcome)
        self._decisions.ended(request.id, outcome.ending, outcome.status)
        if spans := request.facts.get(SPANS):
            spans.ended(outcome.ending, outcome.status)
