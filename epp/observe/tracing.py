"""Spans: `gateway.request` around a request, `gateway.request_orchestration` around its placing.

Only made when tracing is on: then the composition root adds a `RequestTracer` to the policy's pick
observers; otherwise nobody holds one and nothing is paid. The OpenTelemetry API comes with the
picker, its SDK and exporter with the extra `otel`.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.typing import FilteringBoundLogger

from epp.domain.clock import Clock
from epp.domain.decision import Decision
from epp.domain.headers import REQUEST_ID, HeaderChanges
from epp.domain.pool import PoolView
from epp.domain.request import Key, Request
from epp.domain.response import Ending
from epp.errors import Refused

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE_NAME: Final = "gateway-api-inference-extension/epp"
DEFAULT_SHARE: Final = 0.1


class RequestSpans:
    """The spans of one request, from its arrival to its end."""

    __slots__ = ("_context", "_orchestration", "_propagator", "_request")

    def __init__(
        self, tracer: Tracer, propagator: TextMapPropagator, request: Request, began: int
    ) -> None:
        """`began` is wall-clock nanoseconds."""
        self._propagator = propagator
        parent = propagator.extract(dict(request.headers), Context())
        told = attributes(request)
        self._request = tracer.start_span(
            "gateway.request", parent, SpanKind.SERVER, told, start_time=began
        )
        self._context = trace.set_span_in_context(self._request, parent)
        self._orchestration = tracer.start_span(
            "gateway.request_orchestration", self._context, start_time=began
        )

    def headers(self) -> Mapping[str, str]:
        """What to set on the request so that the model server's spans hang below ours."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._context)
        return carrier

    def placed(self, decision: Decision) -> None:
        """The pick is made: the inner span ends here."""
        self._orchestration.set_attribute("gateway.destination", decision.destination)
        self._orchestration.end()

    def refused(self, refusal: Refused) -> None:
        """The picker answered itself: both spans end here."""
        for span in (self._orchestration, self._request):
            # The inner one may have ended with a pick that a later step took back.
            if span.is_recording():
                end_refused(span, refusal)

    def ended(self, ending: Ending, status: int) -> None:
        """The response is over: the outer span ends here."""
        if status:
            self._request.set_attribute("http.response.status_code", status)
        self._request.set_attribute("gateway.ending", ending.value)
        if ending in (Ending.UPSTREAM_ERROR, Ending.FAULT):
            self._request.set_status(Status(StatusCode.ERROR, ending.value))
        self._request.end()


def end_refused(span: Span, refusal: Refused) -> None:
    """End a span of a request that the picker answered itself."""
    span.set_attribute("http.response.status_code", refusal.status)
    span.set_attribute("gateway.refusal", refusal.code)
    if refusal.status >= 500:
        span.set_status(Status(StatusCode.ERROR, refusal.code))
    span.end()


SPANS: Final = Key[RequestSpans]("spans")


class RequestTracer:
    """Makes spans as one of those who learn of each pick; `RequestReports` ends them.

    A request's spans begin at its arrival although they are made at its pick, so a request costs
    nothing before it is known to have one. `tracer` decides what is sampled and where it goes;
    `clock` is the picker's and `wall` gives nanoseconds since the epoch.
    """

    def __init__(
        self,
        tracer: Tracer,
        *,
        clock: Clock,
        wall: Callable[[], int],
        propagator: TextMapPropagator | None = None,
    ) -> None:
        self._tracer = tracer
        self._clock = clock
        self._wall = wall
        self._propagator = propagator or TraceContextTextMapPropagator()

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> HeaderChanges:
        """Begin the request's spans and send the model server on its way with them."""
        spans = self._begin(request)
        request.facts.put(SPANS, spans)
        return HeaderChanges(set=spans.headers())

    def refused(self, request: Request, refusal: Refused) -> None:
        """The spans of a request that the picker answered itself."""
        (request.facts.get(SPANS) or self._begin(request)).refused(refusal)

    def _begin(self, request: Request) -> RequestSpans:
        ago = int((self._clock() - request.arrived) * 1e9)
        return RequestSpans(self._tracer, self._propagator, request, self._wall() - ago)


def attributes(request: Request) -> dict[str, str | int]:
    """What a span says of a request: names and numbers, nothing of its body."""
    return {
        "gateway.request_id": request.id,
        "gateway.client_request_id": request.headers.get(REQUEST_ID, "")[:256],
        "gen_ai.request.model": request.model[:256],
        "gen_ai.operation.name": request.kind,
        "gateway.prompt_tokens": request.prompt_tokens,
    }


def sdk_tracer(environment: Mapping[str, str], log: FilteringBoundLogger) -> Tracer | None:
    """A tracer of the SDK as the environment configures it, None where it cannot be had.

    It is off unless `OTEL_TRACES_EXPORTER` names an exporter: spans printed to standard output by
    default serve nobody. The SDK reads the other `OTEL_*` names itself.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "none")
    if exporter not in ("otlp", "console"):
        return None
    service = environment.get("OTEL_SERVICE_NAME", SERVICE_NAME)
    try:
        return _build(exporter, service, chosen="OTEL_TRACES_SAMPLER" in environment)
    except ImportError as error:
        log.warning("no traces: install the extra otel", missing=error.name, exporter=exporter)
        return None


def _build(exporter: str, service: str, *, chosen: bool) -> Tracer:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    # As the Go pickers sample when nothing is said; the SDK reads a sampler that is.
    sampler = None if chosen else ParentBased(TraceIdRatioBased(DEFAULT_SHARE))
    resource = Resource.create({"service.name": service})
    provider = TracerProvider(resource=resource, sampler=sampler)
    provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
    return provider.get_tracer("epp")


def _exporter(name: str) -> "SpanExporter":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    # By name, because a type checker without the extra `otel` cannot see this module.
    module = import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
    return cast("SpanExporter", module.OTLPSpanExporter())
