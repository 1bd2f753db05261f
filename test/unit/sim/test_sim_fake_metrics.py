"""A made-up page shows what it was told, in time, and nothing else."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from vllm_sim.metrics.dialect import Version
from vllm_sim.metrics.fake import Course, FakeMetrics
from vllm_sim.metrics.page import Page


def shown(given, seconds=0.0):
    fakes = FakeMetrics.of(given)
    page = Page(Version.parse("0.33.0"), "m", 0)
    page.gauges(fakes.gauges(seconds))
    record = fakes.record(1000)
    page.counters(fakes.stats(), record)
    page.histograms(record.histograms)
    page.loras(fakes.loras)
    families = text_string_to_metric_families(page.text())
    return {
        (sample.name.removeprefix("vllm:"), sample.labels.get("le") or ""): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("finished_reason", "stop") == "stop"
    }


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (7, {0: 7, 3: 7}),
        ("oscillate:0:10:4s", {0: 5, 1: 10, 2: 5, 3: 0, 5: 10}),
        ("ramp:10:0:5s", {0: 10, 2.5: 5, 5: 0, 50: 0}),
        ("rampreset:0:10:5s", {0: 0, 2.5: 5, 4: 8, 5: 0, 7.5: 5}),
        ("squarewave:1:9:2s", {0: 1, 0.9: 1, 1: 9, 1.9: 9, 2: 1}),
    ],
    ids=str,
)
def test_a_course_runs_from_start_to_end(text, values):
    course = Course.of("running-requests", text)
    assert {at: course.at(at) for at in values} == pytest.approx(values)


def test_functions_are_computed_at_each_refresh():
    fakes = FakeMetrics.of({"running-requests": "ramp:0:10:10s"}, interval_s=1.0)
    assert [fakes.gauges(at).running for at in (0.9, 1.0, 1.9)] == [0, 1, 1]


def test_gauges_counters_and_histograms_are_what_they_were_told():
    page = shown(
        {
            "running-requests": 10,
            "waiting-requests": 30,
            "kv-cache-usage": 0.4,
            "ttft-buckets-values": [1, 0, 2],
            "request-prompt-tokens": [100, 200],
            "total-generation-tokens": 77,
            "request-success-total": {"stop": 20},
            "prefix-cache-hits": 3,
            "prefix-cache-queries": 9,
        }
    )
    told = {
        ("num_requests_running", ""): 10,
        ("num_requests_waiting", ""): 30,
        ("kv_cache_usage_perc", ""): 0.4,
        ("time_to_first_token_seconds_bucket", "0.001"): 1,
        ("time_to_first_token_seconds_bucket", "0.01"): 3,
        ("time_to_first_token_seconds_count", ""): 3,
        ("prompt_tokens_total", ""): 300,
        ("generation_tokens_total", ""): 77,
        ("request_prompt_tokens_count", ""): 2,
        ("request_success_total", ""): 20,
        ("prefix_cache_hits_total", ""): 3,
        ("prefix_cache_queries_total", ""): 9,
        ("num_preemptions_total", ""): 0,
    }
    assert {key: page[key] for key in told} == told


@pytest.mark.parametrize(
    "row",
    [
        {"running": "a,b", "waiting": "", "timestamp": 1257894567},
        '{"running": "a,b", "waiting": "", "timestamp": 1257894567}',
    ],
    ids=["object", "json"],
)
def test_adapters_are_shown_with_their_time(row):
    (info,) = FakeMetrics.of({"loras": [row]}).loras
    assert (info.running, info.waiting, info.at) == (("a", "b"), (), 1257894567)


def test_a_change_leaves_the_rest_as_it_was():
    fakes = FakeMetrics.of({"running-requests": 4, "waiting-requests": 5, "loras": []})
    changed = fakes.merged({"running-requests": 6, "waiting-requests": None}).gauges(0)
    assert (changed.running, changed.waiting) == (6, 5)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"running": 1}, "'running' is unknown"),
        ({"running-requests": -1}, "running-requests must lie"),
        ({"running-requests": True}, "running-requests must be"),
        ({"running-requests": "saw:0:1:1s"}, "one of oscillate"),
        ({"running-requests": "ramp:0:x:1s"}, "running-requests"),
        ({"running-requests": "ramp:0:1:soon"}, "no duration"),
        ({"running-requests": "ramp:0:1:0s"}, "period"),
        ({"kv-cache-usage": 1.2}, "kv-cache-usage must lie"),
        ({"kv-cache-usage": "ramp:0:2:1s"}, "kv-cache-usage must lie"),
        ({"ttft-buckets-values": [1] * 30}, "more than 23 buckets"),
        ({"ttft-buckets-values": [-1]}, "ttft-buckets-values must be"),
        ({"request-prompt-tokens": 5}, "request-prompt-tokens must be"),
        ({"request-success-total": {"odd": 1}}, "request-success-total maps"),
        ({"prefix-cache-hits": 5}, "come together"),
        ({"prefix-cache-hits": 5, "prefix-cache-queries": 4}, "not above"),
        ({"loras": [3]}, "a lora must look like"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(given, match):
    with pytest.raises(ValueError, match=match):
        FakeMetrics.of(given)
