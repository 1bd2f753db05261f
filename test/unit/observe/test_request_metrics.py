"""What the metrics say of requests, under both names."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from epp.domain.decision import Decision, ProfileResult
from epp.domain.endpoint import Endpoint
from epp.domain.request import Head, Request
from epp.domain.response import Ending, ResponseMode, Usage
from epp.errors import BadRequest, NoEndpoints, QueueFull
from epp.observe.labels import LabelCap
from epp.observe.metrics import Metrics
from epp.observe.request_metrics import RequestMetrics

FULL, WATCH = ResponseMode.FULL, ResponseMode.WATCH
POD_A = Endpoint("pod-a", "10.0.0.1", 8000)
DECISION = Decision(request_id="x", primary=ProfileResult("default", (POD_A,)))


@dataclass(slots=True, frozen=True, kw_only=True)
class Ended:
    ending: Ending = Ending.COMPLETE
    status: int = 200
    duration: float = 2.0
    usage: Usage | None = None
    response_bytes: int = 0
    mode: ResponseMode = FULL


def request(model: str = "llama", *, stream: bool = False, **fields) -> Request:
    fields = {"id": "1", "target_model": model, "body_size": 100, **fields}
    return Request(head=Head({}), model=model, stream=stream, **fields)


class Watched:
    """Metrics in a registry of their own, read as a scraper would."""

    def __init__(self, *, old_names: bool = True, **options) -> None:
        self.metrics = RequestMetrics(**options)
        self._registry = CollectorRegistry()
        self._registry.register(Metrics(self.metrics, old_names=old_names))

    def serve(self, asked: Request, outcome: Ended | None = None, first: float = 0.5) -> None:
        self.metrics.placed(asked, DECISION, 0.001)
        self.metrics.response_started(asked, DECISION, 200, first)
        if outcome and outcome.mode is FULL:
            self.metrics.first_chunk(asked, DECISION, first)
        if outcome:
            self.metrics.ended(asked, DECISION, outcome)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples called `name` that carry `labels`."""
        return sum(
            sample.value
            for sample in self.samples()
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples() if sample.name == name}

    def samples(self) -> Iterator:
        for family in self._registry.collect():
            yield from family.samples


def test_a_request_is_counted_under_both_names():
    seen = Watched()
    seen.serve(request(priority=2, fairness_id="team"))

    new = seen.total("llm_d_epp_request_total", model_name="llama", priority="2")
    assert (new, seen.total("inference_objective_request_total", model_name="llama")) == (1, 1)


def test_the_older_name_sums_up_the_labels_it_lacks():
    seen = Watched()
    for tenant in ("a", "b", "b"):
        seen.serve(request(fairness_id=tenant))

    labelled = {"model_name": "llama", "target_model_name": "llama", "priority": "0"}
    assert [
        (sample.labels, sample.value)
        for sample in seen.samples()
        if sample.name == "inference_objective_request_total"
    ] == [(labelled, 3)]


def test_the_older_names_can_be_dropped():
    seen = Watched(old_names=False)
    seen.serve(request(), Ended())

    assert {
        sample.name for sample in seen.samples() if sample.name.startswith("inference")
    } == set()


def test_older_histograms_are_sums_too():
    seen = Watched()
    for tenant, duration in (("a", 0.3), ("b", 0.5)):
        seen.serve(request(fairness_id=tenant), Ended(duration=duration))

    name = "inference_objective_request_duration_seconds"
    buckets = [seen.total(f"{name}_bucket", le=le) for le in ("0.2", "0.4", "0.6", "+Inf")]
    assert (buckets, seen.total(f"{name}_sum")) == ([0, 1, 2, 2], 0.8)


def test_a_refusal_is_a_request_and_an_error():
    seen = Watched()
    seen.metrics.refused(request(), QueueFull("full"), 0.01)

    assert seen.total("llm_d_epp_request_total", model_name="llama") == 1
    assert seen.total("llm_d_epp_request_error_total", error_code="ResourceExhausted") == 1
    assert seen.total("llm_d_epp_refusals_total", status="429", reason="rejected-capacity") == 1


def test_names_of_requests_that_are_wrong_take_no_place():
    seen = Watched(models=LabelCap(limit=1))
    for number in range(3):
        seen.metrics.refused(request(f"made-up-{number}"), BadRequest("no"), 0.01)
    seen.serve(request("llama"))
    seen.metrics.refused(request("llama"), BadRequest("no"), 0.01)

    assert seen.total("llm_d_epp_request_error_total", model_name="other") == 3
    assert seen.total("llm_d_epp_request_error_total", model_name="llama") == 1
    assert seen.total("llm_d_epp_request_total", model_name="llama") == 2


def test_an_unreadable_request_is_counted_without_a_model():
    seen = Watched()
    seen.metrics.refused(None, BadRequest("no model"), 0.01)

    assert seen.total("llm_d_epp_request_error_total", model_name="", error_code="BadRequest") == 1


def test_a_pool_without_endpoints_is_a_failed_attempt():
    seen = Watched()
    seen.metrics.refused(request(), NoEndpoints("none"), 0.01)
    seen.serve(request())

    name = "inference_extension_scheduler_attempts_total"
    assert seen.total(name, status="failure", pod_name="") == 1
    assert seen.total(name, status="success", pod_name="pod-a", port="8000") == 1


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Ended(), None),
        (Ended(ending=Ending.CLIENT_GONE), None),
        (Ended(ending=Ending.DRAINED), None),
        (Ended(status=404), "ModelServerError"),
        (Ended(ending=Ending.UPSTREAM_ERROR, status=503), "ModelServerError"),
        (Ended(ending=Ending.UPSTREAM_ERROR, status=0), "ModelServerError"),
        (Ended(ending=Ending.FAULT), "Internal"),
    ],
    ids=lambda value: f"{value.ending.value}-{value.status}" if isinstance(value, Ended) else "",
)
def test_which_endings_are_errors(outcome, code):
    seen = Watched()
    seen.serve(request(), outcome)

    codes = seen.labels("llm_d_epp_request_error_total", "error_code")
    assert codes == ({code} if code else set())


@pytest.mark.parametrize(
    ("mode", "stream", "seconds"),
    [(FULL, True, 0.5), (FULL, False, 0.5), (WATCH, False, 0.5), (WATCH, True, None)],
    ids=["full-stream", "full-whole", "watch-whole", "watch-stream"],
)
def test_time_to_first_token_where_the_mode_can_see_it(mode, stream, seconds):
    seen = Watched()
    seen.serve(request(stream=stream), Ended(mode=mode))

    name, streaming = "llm_d_epp_request_ttft_seconds", str(stream).lower()
    found = seen.total(f"{name}_sum", streaming=streaming)
    count = seen.total(f"{name}_count", streaming=streaming)
    assert (found, count) == ((seconds, 1) if seconds else (0, 0))


def test_tokens_and_times_by_token_come_from_the_usage():
    seen = Watched()
    usage = Usage(prompt_tokens=100, completion_tokens=16, cached_tokens=64)
    seen.serve(request(stream=True), Ended(duration=2.0, usage=usage), first=0.5)

    assert seen.total("llm_d_epp_request_input_tokens_sum") == 100
    assert seen.total("llm_d_epp_request_output_tokens_sum") == 16
    assert seen.total("llm_d_epp_request_cached_tokens_sum") == 64
    assert seen.total("llm_d_epp_request_ntpot_seconds_sum") == 2.0 / 16
    assert seen.total("llm_d_epp_request_streaming_tpot_seconds_sum") == 1.5 / 15


def test_an_end_told_twice_counts_once():
    seen, asked = Watched(), request()
    seen.serve(asked, Ended())
    seen.metrics.ended(asked, DECISION, Ended())

    assert seen.total("llm_d_epp_request_running") == 0
    assert seen.total("llm_d_epp_request_duration_seconds_count") == 1


def test_the_end_of_a_request_never_placed_changes_nothing():
    seen = Watched()
    seen.metrics.ended(request(), DECISION, Ended())

    assert seen.total("llm_d_epp_request_running") == 0


def test_an_endpoint_that_left_the_pool_leaves_the_page():
    pool = [POD_A]
    seen = Watched(endpoints=lambda: pool)
    seen.serve(request())
    shown = seen.total("llm_d_epp_scheduler_attempts_total", endpoint_name="pod-a")
    pool.clear()
    gone = seen.labels("llm_d_epp_scheduler_attempts_total", "endpoint_name")
    pool.append(POD_A)
    seen.serve(request())

    back = seen.total("llm_d_epp_scheduler_attempts_total", endpoint_name="pod-a")
    assert (shown, gone, back) == (1, set(), 1)


def test_attempts_are_bounded_and_none_is_lost():
    seen = Watched(max_attempts=3)
    for number in range(10):
        seen.serve(request(f"m-{number}"))

    rows = [s for s in seen.samples() if s.name == "llm_d_epp_scheduler_attempts_total"]
    assert (len(rows) <= 4, sum(row.value for row in rows)) == (True, 10)


def test_unknown_models_past_the_limit_are_other():
    seen = Watched(models=LabelCap(3))
    for number in range(10):
        seen.serve(request(f"m-{number}"))

    shown = seen.labels("llm_d_epp_request_total", "model_name")
    assert shown == {"m-0", "m-1", "m-2", "other"}
    assert seen.total("llm_d_epp_request_total") == 10


def test_a_known_model_is_shown_when_strangers_used_up_the_limit():
    seen = Watched(models=LabelCap(3))
    for number in range(10):
        seen.serve(request(f"m-{number}"))
    seen.metrics.pin(models=["llama"])
    seen.serve(request("llama"))

    assert seen.total("llm_d_epp_request_total", model_name="llama") == 1


def test_a_model_that_has_answered_is_known_however_many_names_clients_make_up():
    seen, asked = Watched(models=LabelCap(0)), request("llama")
    seen.serve(asked)
    seen.metrics.ended(asked, DECISION, Ended(status=200))
    seen.serve(request("llama"))

    assert seen.total("llm_d_epp_request_total", model_name="llama") == 1


def test_a_name_that_no_server_knows_stays_a_strangers():
    seen, asked = Watched(models=LabelCap(0)), request("made-up")
    seen.serve(asked)
    seen.metrics.ended(asked, DECISION, Ended(status=404))
    seen.serve(request("made-up"))

    assert seen.labels("llm_d_epp_request_total", "model_name") == {"other"}


def test_running_returns_to_zero_when_a_model_becomes_known_meanwhile():
    seen, asked = Watched(models=LabelCap(0)), request("llama")
    seen.serve(asked)
    seen.metrics.pin(models=["llama"])
    seen.metrics.ended(asked, DECISION, Ended())

    values = [s.value for s in seen.samples() if s.name == "llm_d_epp_request_running"]
    assert set(values) == {0}


def test_combinations_are_bounded_and_no_count_is_lost():
    seen = Watched(max_series=10)
    for number in range(50):
        seen.serve(request(f"m-{number % 7}", fairness_id=f"t-{number}"))

    rows = [s for s in seen.samples() if s.name == "llm_d_epp_request_total"]
    assert (len(rows) <= 11, sum(row.value for row in rows)) == (True, 50)


def test_a_known_model_keeps_its_name_when_combinations_run_out():
    seen = Watched(max_series=5)
    for number in range(5):
        seen.serve(request(f"m-{number}"))
    seen.metrics.pin(models=["llama"])
    seen.serve(request("llama", fairness_id="team"))

    assert seen.total("llm_d_epp_request_total", model_name="llama", fairness_id="other") == 1


requests = st.builds(
    request,
    st.sampled_from(["a", "b", "c", "", "x" * 300]),
    stream=st.booleans(),
    fairness_id=st.sampled_from(["", "t1", "t2"]),
    priority=st.integers(-2, 2),
)
outcomes = st.builds(
    Ended,
    ending=st.sampled_from(Ending),
    status=st.sampled_from([0, 200, 404, 503]),
    duration=st.floats(0, 100),
    usage=st.none() | st.builds(Usage, st.integers(0, 9), st.integers(0, 9)),
    mode=st.sampled_from(ResponseMode),
)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(requests, outcomes), max_size=20),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=3),
    st.integers(0, 3),
)
def test_when_all_has_ended_nothing_runs_and_nothing_is_lost(served, pinned, limit):
    seen = Watched(models=LabelCap(limit), max_series=4)
    for asked, _ in served:
        seen.serve(asked)
    seen.metrics.pin(models=pinned)
    for asked, outcome in served:
        seen.metrics.ended(asked, DECISION, outcome)

    running = {s.value for s in seen.samples() if s.name.endswith("running_requests")}
    assert running <= {0}
    assert seen.total("llm_d_epp_request_total") == len(served)
    assert seen.total("llm_d_epp_request_duration_seconds_count") == len(served)
