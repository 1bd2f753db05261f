"""The metrics page reads as Prometheus' own parser wants it, in every version's names."""

from __future__ import annotations

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from vllm_sim.engine import EngineStats
from vllm_sim.metrics.dialect import Version
from vllm_sim.metrics.page import Gauges, LoraInfo, Page
from vllm_sim.metrics.record import Record, ladder


def page(version="0.33.0", **gauges):
    record = Record(1000)
    for value in (0.003, 0.003, 9999.0):
        record.histograms["time_to_first_token_seconds"].observe(value)
    page = Page(Version.parse(version), 'm"\\1', 2)
    page.gauges(Gauges(**{"running": 3, "waiting": 5, "deferred": 2, "kv_usage": 0.5, **gauges}))
    page.counters(EngineStats(prompt_tokens=10, prefix_hits=4), record)
    page.histograms(record.histograms)
    page.cache_config({"block_size": "16", "num_gpu_blocks": "100"})
    return page


def samples(text):
    return [s for family in text_string_to_metric_families(text) for s in family.samples]


def value(text, name, **labels):
    found = [
        sample.value
        for sample in samples(text)
        if sample.name == f"vllm:{name}" and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, f"{name} {labels}: {found}"
    return found[0]


def names(version):
    return {sample.name.removeprefix("vllm:") for sample in samples(page(version).text())}


def test_labels_are_escaped_and_carry_the_engine():
    text = page().text()
    assert value(text, "num_requests_running", model_name='m"\\1', engine="2") == 3


def test_reasons_add_up_to_all_that_wait():
    text = page().text()
    parts = [
        value(text, "num_requests_waiting_by_reason", reason=reason)
        for reason in ("capacity", "deferred")
    ]
    assert parts == [3, 2]
    assert value(text, "num_requests_waiting") == sum(parts)


def test_buckets_are_cumulative_up_to_infinity():
    text = page().text()
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for sample in samples(text)
        if sample.name == "vllm:time_to_first_token_seconds_bucket"
    ]
    assert buckets[0] == (0.001, 0)
    assert buckets[1] == (0.005, 2)
    assert buckets[-1] == (math.inf, 3)
    assert buckets == sorted(buckets)


@pytest.mark.parametrize(
    ("level", "state"), [(-1, "awake"), (1, "weights_offloaded"), (2, "discard_all")]
)
def test_one_sleep_state_is_on(level, state):
    text = page(sleep_level=level).text()
    assert value(text, "engine_sleep_state", sleep_state=state) == 1


def test_the_newest_adapters_have_the_greatest_value():
    shown = page()
    shown.loras([LoraInfo(2, ("a",), (), 10.0), LoraInfo(2, ("a", "b"), ("c",), 20.0)])
    newest = max(
        (s for s in samples(shown.text()) if s.name == "vllm:lora_requests_info"),
        key=lambda sample: sample.value,
    )
    assert newest.labels == {
        "max_lora": "2",
        "running_lora_adapters": "a,b",
        "waiting_lora_adapters": "c",
    }


HISTORY = [
    ("gpu_cache_usage_perc", {"0.8.5", "0.9.2", "0.10.2", "0.11.2"}),
    ("kv_cache_usage_perc", {"0.9.2", "0.10.2", "0.11.2", "0.19.1", "0.24.0", "0.32.0", "0.33.0"}),
    ("gpu_prefix_cache_hits_total", {"0.8.5", "0.9.2", "0.10.2", "0.11.2"}),
    ("time_per_output_token_seconds_count", {"0.8.5", "0.9.2", "0.10.2", "0.11.2"}),
    (
        "inter_token_latency_seconds_count",
        {"0.10.2", "0.11.2", "0.19.1", "0.24.0", "0.32.0", "0.33.0"},
    ),
    ("num_requests_waiting_by_reason", {"0.24.0", "0.32.0", "0.33.0"}),
    ("num_requests_kv_fetch_by_stage", {"0.33.0"}),
    ("engine_sleep_state", {"0.11.2", "0.19.1", "0.24.0", "0.32.0", "0.33.0"}),
    ("prompt_tokens_recomputed_total", {"0.19.1"}),
    ("admission_rejections_total", {"0.32.0", "0.33.0"}),
    ("prompt_tokens_cached_total", {"0.32.0", "0.33.0"}),
    (
        "num_requests_waiting",
        {"0.8.5", "0.9.2", "0.10.2", "0.11.2", "0.19.1", "0.24.0", "0.32.0", "0.33.0"},
    ),
]
VERSIONS = ("0.8.5", "0.9.2", "0.10.2", "0.11.2", "0.19.1", "0.24.0", "0.32.0", "0.33.0")


@pytest.mark.parametrize(("name", "versions"), HISTORY, ids=[name for name, _ in HISTORY])
def test_a_name_is_there_in_its_versions_only(name, versions):
    assert {version for version in VERSIONS if name in names(version)} == versions


def test_before_0_9_there_is_no_engine_label():
    assert all(
        "engine" not in sample.labels
        for sample in samples(page("0.8.5").text())
        if sample.name != "vllm:cache_config_info"
    )


def test_the_ladder_ends_at_the_model_length():
    assert ladder(100) == (1, 2, 5, 10, 20, 50, 100)


@pytest.mark.parametrize("text", ["", "new", "0.x"])
def test_a_version_must_be_numbers(text):
    with pytest.raises(ValueError, match="must look like"):
        Version.parse(text)
