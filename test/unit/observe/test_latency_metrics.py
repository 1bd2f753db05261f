"""The families of predicted latencies."""

import math

from epp.observe.latency_metrics import ERROR_BOUNDS, LatencyMetrics, Missed, TargetState
from epp.observe.series import Histogram


def state(**fields):
    errors = Histogram(ERROR_BOUNDS)
    for error in (0.01, 0.04, 0.4):
        errors.observe(error)
    known = {"plugin": "it", "endpoint_class": "h100", "target": "ttft", "samples": 51}
    return TargetState(**known, warm=True, errors=errors, recent=0.15, **fields)


def samples(told=(), missed=()):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in LatencyMetrics(lambda: told, lambda: missed).collect(old_names=True)
        for sample in metric.samples
    }


def test_what_is_known_of_a_target_is_shown():
    shown = samples([state()])
    name, labels = "llm_d_epp_latency_prediction_", ("it", "h100", "ttft")

    assert shown[f"{name}samples_total", *labels] == 51
    assert shown[f"{name}warm", *labels] == 1
    assert shown[f"{name}recent_error_ratio", *labels] == 0.15
    assert shown[f"{name}error_ratio_count", *labels] == 3
    assert math.isclose(shown[f"{name}error_ratio_sum", *labels], 0.45)
    assert shown[f"{name}error_ratio_bucket", *labels, "0.05"] == 2


def test_late_answers_are_shown_by_target():
    shown = samples(missed=[Missed("it", "ttft", 4), Missed("it", "tpot", 0)])

    assert shown["llm_d_epp_request_slo_violation_total", "it", "ttft"] == 4


def test_nothing_is_shown_where_nothing_is_predicted():
    assert samples() == {}
