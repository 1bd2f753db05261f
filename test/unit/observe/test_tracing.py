"""Spans around a request, checked with the SDK's own in-memory exporter."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from epp.domain.decision import Decision, ProfileResult
from epp.domain.endpoint import Endpoint
from epp.domain.request import Head, Prompt, Request
from epp.domain.response import Ending
from epp.errors import InternalFault, QueueFull
from epp.observe.tracing import RequestTracer, sdk_tracer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DECISION = Decision(
    request_id="x", primary=ProfileResult("default", (Endpoint("pod-a", "10.0.0.1", 8000),))
)


class Traced:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = RequestTracer(provider.get_tracer("test"))

    def __getitem__(self, name: str):
        (span,) = (span for span in self._exporter.get_finished_spans() if span.name == name)
        return span


def request() -> Request:
    return Request(id="ours", head=Head({}), model="llama", prompts=(Prompt(text=b"secret"),))


def test_a_request_has_an_outer_and_an_inner_span():
    traced = Traced()
    spans = traced.tracer.begin({})
    spans.placed(request(), DECISION)
    spans.ended(Ending.COMPLETE, 200)

    outer, inner = traced["gateway.request"], traced["gateway.request_orchestration"]
    assert inner.parent.span_id == outer.context.span_id
    assert outer.kind is SpanKind.SERVER
    assert inner.attributes["gateway.destination"] == "10.0.0.1:8000"


def test_the_clients_span_is_the_parent():
    traced = Traced()
    spans = traced.tracer.begin({"traceparent": PARENT})
    spans.refused(None, QueueFull("full"))

    outer = traced["gateway.request"]
    assert f"{outer.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{outer.parent.span_id:016x}" == "b7ad6b7169203331"


def test_the_model_server_is_sent_our_span():
    traced = Traced()
    spans = traced.tracer.begin({"traceparent": PARENT})
    sent = spans.headers()["traceparent"]
    spans.ended(Ending.COMPLETE, 200)

    outer = traced["gateway.request"].context
    assert sent == f"00-{outer.trace_id:032x}-{outer.span_id:016x}-01"


@pytest.mark.parametrize(
    ("refusal", "status"),
    [(QueueFull("full"), StatusCode.UNSET), (InternalFault("f1"), StatusCode.ERROR)],
    ids=["429", "500"],
)
def test_only_our_own_faults_are_errors_of_the_span(refusal, status):
    traced = Traced()
    traced.tracer.begin({}).refused(request(), refusal)

    assert traced["gateway.request"].status.status_code is status


def test_no_attribute_carries_a_prompt():
    traced = Traced()
    spans = traced.tracer.begin({})
    spans.placed(request(), DECISION)
    spans.ended(Ending.COMPLETE, 200)

    assert "secret" not in traced["gateway.request"].to_json()


@pytest.mark.parametrize("environment", [{}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_without_an_exporter_there_is_no_tracer(environment):
    assert sdk_tracer(environment) is None
