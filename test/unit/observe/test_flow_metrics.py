"""Metrics of flow control: counted once, bounded, empty without a queue."""

from support.queues import waiting

from epp.admission.machine import Outcome
from epp.domain.workload import Workload
from epp.observe.flow_metrics import MOST_SERIES, BandState, FlowMetrics, QueueState


def values(family):
    return {labels: cell.value for labels, cell in family.cells.items()}


def test_each_outcome_is_counted():
    metrics = FlowMetrics("pool")
    for outcome in (Outcome.DISPATCHED, Outcome.DISPATCHED, Outcome.EVICTED_TTL):
        metrics.left(waiting(1, flow="t"), outcome, 0.5)

    assert values(metrics.requests) == {
        ("Dispatched", "0", "pool"): 2,
        ("EvictedTTL", "0", "pool"): 1,
    }


def test_a_flood_of_tenants_and_workloads_makes_few_series():
    metrics = FlowMetrics("pool")
    for number in range(5000):
        each = waiting(number, flow=f"t{number}", workload=f"w{number}", model=f"m{number}")
        metrics.left(each, Outcome.REJECTED_CAPACITY, 0.0)

    assert sum(values(metrics.requests).values()) == 5000
    assert len(metrics.waited.cells) <= MOST_SERIES + 1
    assert len(metrics.workload_requests.cells) <= 201


def test_gauges_say_who_waits():
    state = QueueState(
        saturation=0.5,
        waiting=[waiting(1, flow="a", body_size=10), waiting(2, flow="a", body_size=5)],
        bands=(BandState(0, requests=2, bytes=15, max_requests=4, max_bytes=150),),
        max_requests=8,
    )
    shown = FlowMetrics("pool", queue=lambda: state).asked()
    by_name = {f.spec.name.removeprefix("llm_d_epp_flow_control_"): values(f) for f in shown}

    assert by_name["queue_size"] == {("a", "0", "pool", "m", "m"): 2}
    assert by_name["queue_bytes"] == {("a", "0", "pool", "m", "m"): 15}
    assert by_name["capacity_utilization_requests"] == {("0", "pool"): 0.5}
    assert by_name["global_capacity_utilization_requests"] == {("pool",): 0.25}
    assert by_name["pool_saturation"] == {("pool", "effective"): 0.5}


def test_without_a_queue_only_workloads_are_counted():
    going = [Workload("a", 5), Workload("a", 5), Workload("", 1)]
    shown = FlowMetrics("pool", active=lambda: going).asked()

    assert [values(family) for family in shown if family.cells] == [{("a", "5"): 2}]
