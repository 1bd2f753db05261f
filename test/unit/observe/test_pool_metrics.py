"""The pool's gauges, as dashboards and conformance runs look for them."""

import math

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from epp.domain.decision import Decision, ProfileResult
from epp.domain.endpoint import Endpoint
from epp.domain.pool import PoolView
from epp.domain.request import Head, Request
from epp.observe.metrics import Metrics
from epp.observe.picker_metrics import NoScrapes, PickerMetrics, PrefixHits, WireState
from epp.observe.pool_metrics import EndpointState, PoolMetrics, PoolState, ranked_name


def endpoint(name: str = "pod-a", **fields) -> Endpoint:
    return Endpoint(name, "10.0.0.1", 8000, **fields)


def state(name: str = "pod-a", *, ready: bool = True, **fields) -> EndpointState:
    return EndpointState(endpoint=endpoint(name, ready=ready), **{"fresh": True, **fields})


def registry(*subjects) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(Metrics(*subjects))
    return made


def pool(*endpoints: EndpointState) -> CollectorRegistry:
    return registry(PoolMetrics(lambda: PoolState("pool", endpoints)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("llm_d_epp_average_queue_size", 3.0),
        ("inference_pool_average_queue_size", 3.0),
        ("llm_d_epp_std_dev_queue_size", 1.0),
        ("llm_d_epp_average_kv_cache_utilization", 0.5),
        ("inference_pool_average_running_requests", 6.0),
        ("inference_pool_ready_pods", 3.0),
        ("llm_d_epp_ready_endpoints", 3.0),
        ("llm_d_epp_stale_endpoints", 1.0),
        ("llm_d_epp_ejected_endpoints", 1.0),
    ],
)
def test_averages_are_over_endpoints_with_fresh_gauges(name, value):
    rows = (
        state("a", waiting=2, running=4, kv_usage=0.25, ejected=True),
        state("b", waiting=4, running=8, kv_usage=0.75),
        state("stale", waiting=900, running=900, kv_usage=1, fresh=False),
    )

    assert pool(*rows).get_sample_value(name, {"name": "pool"}) == value


def test_nothing_fresh_is_unknown_not_idle():
    shown = pool(state(fresh=False)).get_sample_value(
        "inference_pool_average_queue_size", {"name": "pool"}
    )
    assert math.isnan(shown)


def test_the_queue_gauge_reads_as_the_conformance_run_wants_it():
    text = generate_latest(pool(state("pod-a", waiting=2))).decode()

    wanted = 'inference_pool_per_pod_queue_size{model_server_pod="pod-a-rank-0",name="pool"} 2.0'
    assert wanted in text.splitlines()


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (endpoint("pod-a"), "pod-a-rank-0"),
        (endpoint("pod-a-rank-2", pod="pod-a", rank=2), "pod-a-rank-2"),
        (endpoint("pod-a:8002", pod="pod-a", rank=2), "pod-a-rank-2"),
    ],
    ids=["file", "named-by-rank", "named-otherwise"],
)
def test_an_endpoint_is_called_by_its_pod_and_rank(made, shown):
    assert ranked_name(made) == shown


def test_in_flight_is_told_by_endpoint():
    shown = pool(state("pod-a", inflight_requests=3, inflight_tokens=700))

    labels = {"endpoint_name": "pod-a", "namespace": "default"}
    values = [
        shown.get_sample_value(f"llm_d_epp_inflight_{w}", labels) for w in ("requests", "tokens")
    ]
    assert values == [3, 700]


def test_the_wire_is_read_when_scraped():
    wire = WireState(streams=4, held_bytes=10, held_limit=20, http2={"rst_stream": 7})
    shown = registry(PickerMetrics(wire_state=lambda: wire))

    assert shown.get_sample_value("llm_d_epp_extproc_streams_inflight") == 4
    assert shown.get_sample_value("llm_d_epp_http2_events_total", {"event": "rst_stream"}) == 7


def test_what_the_picker_costs_and_what_goes_wrong():
    metrics = PickerMetrics(commit="abc", build_ref="v1")
    metrics.phase("parse").observe(0.00003)
    metrics.plugin("scorer", "queue-scorer", "q").observe(0.00002)
    metrics.lagged(0.25)
    metrics.reloaded("config", "refused")
    shown = registry(metrics)

    def value(name: str, **labels: str) -> float | None:
        return shown.get_sample_value(name, labels)

    plugin = {"extension_point": "scorer", "plugin_type": "queue-scorer", "plugin_name": "q"}
    assert value("llm_d_epp_phase_duration_seconds_count", phase="parse") == 1
    assert value("inference_extension_plugin_duration_seconds_count", **plugin) == 1
    assert value("llm_d_epp_event_loop_lag_seconds") == 0.25
    assert value("llm_d_epp_config_reloads_total", what="config", outcome="refused") == 1
    assert value("inference_extension_info", commit="abc", build_ref="v1") == 1


def test_scraping_is_told_by_reason_and_under_the_go_names():
    stats = NoScrapes(scrapes=10, page_bytes=5000, errors={"timeout": 2, "status": 1, "page": 4})
    shown = registry(PickerMetrics(scrape_state=lambda: stats))

    source = {"source_type": "metrics-data-source"}
    extractor = {**source, "extractor_type": "core-metrics-extractor"}
    values = [
        shown.get_sample_value("llm_d_epp_scrapes_total"),
        shown.get_sample_value("llm_d_epp_scrape_errors_total", {"reason": "timeout"}),
        shown.get_sample_value("llm_d_epp_datalayer_poll_errors_total", source),
        shown.get_sample_value("llm_d_epp_datalayer_extract_errors_total", extractor),
    ]
    assert values == [10, 2, 3, 4]


def test_a_prefix_index_is_told_by_its_size_and_its_hits():
    metrics = PickerMetrics(prefix_sizes=lambda: {("approx", "approx-prefix"): 12})
    hits = PrefixHits(metrics, "approx", "approx-prefix", cached="hit", total="all")
    a, b = endpoint("a"), endpoint("b")
    view = PoolView((a, b), {"hit": np.array([0, 48]), "all": np.array([64, 64])})
    picked = Decision(request_id="x", primary=ProfileResult("default", (b,)))
    hits.picked(Request(id="x", head=Head({})), view, picked)
    shown = registry(metrics)

    plugin = {"plugin_name": "approx", "plugin_type": "approx-prefix"}
    assert shown.get_sample_value("llm_d_epp_prefix_indexer_size", plugin) == 12
    assert shown.get_sample_value("inference_extension_prefix_indexer_size") == 12
    assert shown.get_sample_value("llm_d_epp_prefix_indexer_hit_ratio_sum", plugin) == 0.75
    assert shown.get_sample_value("inference_extension_prefix_indexer_hit_bytes_sum") == 192
