"""The command line: Go's syntax, Go's names, and which timing model they choose."""

from __future__ import annotations

import click
import pytest

from vllm_sim.cli import main, options_from


def parsed(*args):
    with main.make_context("vllm-sim", list(args)) as ctx:
        return options_from(ctx.params)


@pytest.mark.parametrize(
    "args",
    [["--port", "9000"], ["--port=9000"], ["-port", "9000"], ["-port=9000"]],
    ids=" ".join,
)
def test_flags_are_written_in_each_of_gos_ways(args):
    assert parsed(*args).port == 9000


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--enable-request-id-headers"], True),
        (["--enable-request-id-headers=true"], True),
        (["--enable-request-id-headers=F"], False),
        (["--enable-request-id-headers", "false"], False),
        (["--enable-request-id-headers", "--port", "1"], True),
        ([], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_booleans_are_written_as_go_takes_them(args, expected):
    assert parsed(*args).request_id_headers is expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("1m30s", 90.0), ("1.5s", 1.5), ("250us", 0.00025), ("20", 0.02)],
)
def test_durations_are_gos(text, seconds):
    assert parsed("--time-to-first-token", text).pacing.ttft == pytest.approx(seconds)


def test_without_latency_flags_the_engine_decides():
    options = parsed()
    assert options.pacing is None
    assert (options.engine_config().seqs, options.waiting_limit) == (1024, 0)
    assert options.model_len == 131_072


def test_with_latency_flags_the_go_simulators_defaults_hold():
    options = parsed("--inter-token-latency=10ms")
    config = options.engine_config()
    assert (config.seqs, config.blocks) == (5, 1024)
    assert (options.model_len, options.waiting_limit) == (1024, 1000)


def test_flags_of_no_meaning_here_are_accepted():
    options = parsed("--enforce-eager", "--tensor-parallel-size=4", "--model", "m")
    assert options.model == "m"


@pytest.mark.parametrize(
    "value", ['{"name":"a","path":"/a"}', "a=/a", '[{"name":"a","path":"/a"}]']
)
def test_adapters_come_as_json_or_pairs(value):
    (module,) = parsed("--lora-modules", value).lora_modules
    assert (module.name, module.path) == ("a", "/a")


def test_lists_take_several_values_after_one_flag():
    options = parsed(
        "--lora-modules", '{"name":"a"}', '{"name":"b"}', "--port", "9000",
        "--served-model-name", "x", "y", "--failure-types", "rate_limit", "server_error",
        "-lora-modules", '{"name":"c"}',
    )  # fmt: skip
    assert [module.name for module in options.lora_modules] == ["a", "b", "c"]
    assert options.served_model_names == ("x", "y")
    assert options.failure_types == ("rate_limit", "server_error")
    assert options.port == 9000


def test_a_value_without_its_flag_is_a_usage_error():
    with pytest.raises(click.UsageError):
        parsed("--port", "9000", "9001")


def test_vllms_event_configuration_is_read():
    text = (
        '{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:6000",'
        '"replay_endpoint":"tcp://*:6001","topic":"kv@a@m","buffer_steps":9}'
    )
    events = parsed("--kv-events-config", text).events
    assert (events.endpoint, events.replay_endpoint) == ("tcp://*:6000", "tcp://*:6001")
    assert (events.topic, events.buffer_steps) == ("kv@a@m", 9)


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--profile", "b300"], "choose one of"),
        (["--vllm-version", "new"], "must look like"),
        (["--lora-modules", "{"], "no JSON"),
        (["--failure-types", "odd"], "none of"),
        (["--max-num-batched-tokens=8", "--max-num-seqs=9"], "must not be below"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_wrong_values_are_named(args, match):
    with pytest.raises(ValueError, match=match):
        parsed(*args).engine_config()


@pytest.mark.parametrize("args", [["--port=x"], ["--nonsense"], ["--time-to-first-token=soon"]])
def test_wrong_syntax_is_a_usage_error(args):
    with pytest.raises(click.UsageError):
        parsed(*args)
