"""Spans around a request, checked with the SDK's own in-memory exporter."""

import io

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from epp.domain.decision import Decision, ProfileResult
from epp.domain.endpoint import Endpoint
from epp.domain.pool import PoolView
from epp.domain.request import Head, Prompt, Request
from epp.domain.response import Ending
from epp.errors import InternalFault, QueueFull
from epp.observe.logs import build_log
from epp.observe.tracing import SPANS, RequestTracer, sdk_tracer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DECISION = Decision(
    request_id="x", primary=ProfileResult("default", (Endpoint("pod-a", "10.0.0.1", 8000),))
)


SECOND = 1_000_000_000


class Traced:
    """A tracer at 100 s on the picker's clock, 5000 s on the wall's."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = RequestTracer(
            provider.get_tracer("test"), clock=lambda: 100.0, wall=lambda: 5000 * SECOND
        )

    def serve(self, asked: Request, ending: Ending = Ending.COMPLETE, status: int = 200) -> str:
        """Pick, place and end a request; returns the traceparent sent on."""
        changes = self.tracer.picked(asked, PoolView((), {}), DECISION)
        spans = asked.facts.get(SPANS)
        spans.placed(DECISION)
        spans.ended(ending, status)
        return changes.set["traceparent"]

    def __getitem__(self, name: str):
        (span,) = (span for span in self._exporter.get_finished_spans() if span.name == name)
        return span


def request(**headers: str) -> Request:
    prompts = (Prompt(text=b"secret"),)
    return Request(id="ours", head=Head(headers), model="llama", prompts=prompts, arrived=98.0)


def test_a_request_has_an_outer_and_an_inner_span():
    traced = Traced()
    traced.serve(request())

    outer, inner = traced["gateway.request"], traced["gateway.request_orchestration"]
    assert inner.parent.span_id == outer.context.span_id
    assert outer.kind is SpanKind.SERVER
    assert inner.attributes["gateway.destination"] == "10.0.0.1:8000"


def test_spans_begin_when_the_request_arrived():
    traced = Traced()
    traced.serve(request())

    assert traced["gateway.request"].start_time == 4998 * SECOND


def test_the_clients_span_is_the_parent():
    traced = Traced()
    traced.serve(request(traceparent=PARENT))

    outer = traced["gateway.request"]
    assert f"{outer.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{outer.parent.span_id:016x}" == "b7ad6b7169203331"


def test_the_model_server_is_sent_our_span():
    traced = Traced()
    sent = traced.serve(request(traceparent=PARENT))

    outer = traced["gateway.request"].context
    assert sent == f"00-{outer.trace_id:032x}-{outer.span_id:016x}-01"


@pytest.mark.parametrize(
    ("refusal", "status"),
    [(QueueFull("full"), StatusCode.UNSET), (InternalFault("f1"), StatusCode.ERROR)],
    ids=["429", "500"],
)
def test_only_our_own_faults_are_errors_of_the_span(refusal, status):
    traced = Traced()
    traced.tracer.refused(request(), refusal)

    assert traced["gateway.request"].status.status_code is status
    assert traced["gateway.request_orchestration"].status.status_code is status


def test_a_request_refused_after_its_pick_keeps_its_spans():
    traced, asked = Traced(), request()
    traced.tracer.picked(asked, PoolView((), {}), DECISION)
    asked.facts.get(SPANS).placed(DECISION)
    traced.tracer.refused(asked, InternalFault("f1"))

    assert traced["gateway.request"].attributes["http.response.status_code"] == 500


def test_an_endpoint_that_fails_is_an_error_of_the_span():
    traced = Traced()
    traced.serve(request(), Ending.UPSTREAM_ERROR, 503)

    outer = traced["gateway.request"]
    assert outer.status.status_code is StatusCode.ERROR
    assert outer.attributes["http.response.status_code"] == 503


def test_no_attribute_carries_a_prompt():
    traced = Traced()
    traced.serve(request())

    assert "secret" not in traced["gateway.request"].to_json()


@pytest.mark.parametrize("environment", [{}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_without_an_exporter_there_is_no_tracer(environment):
    assert sdk_tracer(environment, build_log(io.StringIO())) is None


def test_a_parents_choice_is_kept_and_a_tenth_of_the_rest_is_sampled():
    tracer = sdk_tracer({"OTEL_TRACES_EXPORTER": "console"}, build_log(io.StringIO()))

    described = tracer.sampler.get_description()
    assert described.startswith("ParentBased{root:TraceIdRatioBased{0.1}")
