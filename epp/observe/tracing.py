"""Spans: `gateway.request` around a request, `gateway.request_orchestration` around its placing.

Only made when tracing is on; otherwise nobody holds a `RequestTracer` and nothing is paid. The
OpenTelemetry API comes with the picker, its SDK and exporter with the extra `otel`.
"""

from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from epp.domain.decision import Decision
from epp.domain.headers import REQUEST_ID, Headers
from epp.domain.request import Key, Request
from epp.domain.response import Ending
from epp.errors import Refused

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE_NAME: Final = "gateway-api-inference-extension/epp"


class RequestSpans:
    """The spans of one request, from its headers to its end; `end` may be called twice."""

    __slots__ = ("_context", "_orchestration", "_propagator", "_request", "_tracer")

    def __init__(self, tracer: Tracer, propagator: TextMapPropagator, headers: Headers) -> None:
        self._tracer = tracer
        self._propagator = propagator
        parent = propagator.extract(dict(headers), Context())
        self._request = tracer.start_span("gateway.request", parent, SpanKind.SERVER)
        self._context = trace.set_span_in_context(self._request, parent)
        self._orchestration: Span = tracer.start_span(
            "gateway.request_orchestration", self._context
        )

    def headers(self) -> Mapping[str, str]:
        """What to set on the request so that the model server's spans hang below ours."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._context)
        return carrier

    def placed(self, request: Request, decision: Decision) -> None:
        """The pick is made: the inner span ends here."""
        self._request.set_attributes(attributes(request))
        self._orchestration.set_attribute("gateway.destination", decision.destination)
        self._orchestration.end()

    def refused(self, request: Request | None, refusal: Refused) -> None:
        """The picker answered itself: both spans end here."""
        if request is not None:
            self._request.set_attributes(attributes(request))
        for span in (self._orchestration, self._request):
            span.set_attribute("http.response.status_code", refusal.status)
            span.set_attribute("gateway.refusal", refusal.code)
            if refusal.status >= 500:
                span.set_status(Status(StatusCode.ERROR, refusal.code))
            span.end()

    def ended(self, ending: Ending, status: int) -> None:
        """The response is over: the outer span ends here."""
        if status:
            self._request.set_attribute("http.response.status_code", status)
        self._request.set_attribute("gateway.ending", ending.value)
        if ending in (Ending.UPSTREAM_ERROR, Ending.FAULT):
            self._request.set_status(Status(StatusCode.ERROR, ending.value))
        self._request.end()


SPANS: Final = Key[RequestSpans]("spans")


class RequestTracer:
    """Begins spans for requests; `tracer` decides what is sampled and where it goes."""

    def __init__(self, tracer: Tracer, propagator: TextMapPropagator | None = None) -> None:
        self._tracer = tracer
        self._propagator = propagator or TraceContextTextMapPropagator()

    def begin(self, headers: Headers) -> RequestSpans:
        """Spans of the request with these headers; its `traceparent` becomes their parent."""
        return RequestSpans(self._tracer, self._propagator, headers)


def attributes(request: Request) -> dict[str, str | int]:
    """What a span says of a request: names and numbers, nothing of its body."""
    return {
        "gateway.request_id": request.id,
        "gateway.client_request_id": request.headers.get(REQUEST_ID, "")[:256],
        "gen_ai.request.model": request.model[:256],
        "gen_ai.operation.name": request.kind,
        "gateway.prompt_tokens": request.prompt_tokens,
    }


def sdk_tracer(environment: Mapping[str, str]) -> Tracer | None:
    """A tracer of the SDK as the environment configures it, None where it cannot be had.

    It is off unless `OTEL_TRACES_EXPORTER` names an exporter: spans printed to standard output by
    default serve nobody. The SDK reads the other `OTEL_*` names itself.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "none")
    if exporter not in ("otlp", "console"):
        return None
    with suppress(ImportError):
        return _build(exporter, environment.get("OTEL_SERVICE_NAME", SERVICE_NAME))
    return None


def _build(exporter: str, service: str) -> Tracer:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
    return provider.get_tracer("epp")


def _exporter(name: str) -> "SpanExporter":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    # By name, because a type checker without the extra `otel` cannot see this module.
    module = import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
    return cast("SpanExporter", module.OTLPSpanExporter())
