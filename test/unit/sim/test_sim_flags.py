"""The command line: Go's syntax, Go's names, and which timing model they choose."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from vllm_sim.cli import main
from vllm_sim.given import options_from
from vllm_sim.options import Doors, ToolLaw
from vllm_sim.switches import BARE, IGNORED, REFUSED, REFUSED_BARE

DOCS = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text()


def parsed(*args):
    with main.make_context("vllm-sim", list(args)) as ctx:
        return options_from(ctx.params)


def events_json(**fields):
    return json.dumps({"enable_kv_cache_events": True, "publisher": "zmq", **fields})


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


@pytest.mark.parametrize("flag", [*IGNORED, *BARE])
def test_flags_of_no_meaning_here_are_accepted(flag):
    value = () if flag in BARE else ("1",)
    assert parsed(f"--{flag}", *value, "--model", "m").model == "m"


@pytest.mark.parametrize("args", [["-v=4"], ["--v", "4"], ["-v", "5"]], ids=" ".join)
def test_a_verbosity_is_accepted(args):
    assert parsed(*args).port == 8000


@pytest.mark.parametrize("flag", [*IGNORED, *BARE, *REFUSED])
def test_flags_without_effect_are_named_in_the_docs(flag):
    assert f"`--{flag}`" in DOCS


@pytest.mark.parametrize("flag", REFUSED)
def test_what_would_change_answers_is_refused_with_what_to_use(flag):
    value = () if flag in REFUSED_BARE else ("x",)
    with pytest.raises(click.UsageError, match=f"--{flag}: vllm-sim .*; "):
        parsed(f"--{flag}", *value)


def test_what_is_switched_off_is_not_refused():
    assert parsed("--no-omni", "--dataset-in-memory=false").port == 8000


def test_a_boolean_is_denied_as_argparse_does():
    assert not parsed("--no-enable-prefix-caching").prefix_caching
    assert not parsed("--no-enable-sleep-mode").doors.sleep


def test_tool_calls_draw_within_the_flags():
    law = parsed(
        "--min-tool-call-integer-param=5", "--max-tool-call-integer-param=9",
        "--max-tool-call-number-param=2.5", "--min-tool-call-array-param-length=0",
        "--tool-call-not-required-param-probability=20",
    ).tools  # fmt: skip
    assert law == ToolLaw((5, 9), (0, 2.5), (0, 5), 20, 100)


@pytest.mark.parametrize(
    ("args", "secure"),
    [
        ([], False),
        (["--self-signed-certs"], True),
        (["--ssl-certfile=c", "--ssl-keyfile=k"], True),
    ],
    ids=["none", "own", "files"],
)
def test_tls_is_asked_for_by_its_flags(args, secure):
    assert parsed(*args).transport.secure is secure


@pytest.mark.parametrize(
    ("args", "environment", "doors"),
    [
        ([], {}, Doors()),
        ([], {"VLLM_SERVER_DEV_MODE": "0"}, Doors(dev=False)),
        ([], {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "False"}, Doors(loras=False)),
        (["--enable-sleep-mode=false"], {}, Doors(sleep=False)),
        (["--strict-doors"], {}, Doors(dev=False, sleep=False, loras=False)),
        (
            ["--strict-doors", "--enable-sleep-mode"],
            {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true"},
            Doors(),
        ),
    ],
    ids=["default", "no dev mode", "no adapters", "no sleep", "strict", "strict and asked for"],
)
def test_doors_are_open_unless_told_otherwise(monkeypatch, args, environment, doors):
    for name in ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert parsed(*args).doors == doors


def test_fake_metrics_are_read():
    fakes = parsed(
        '--fake-metrics={"running-requests":"ramp:0:9:9s"}', "--fake-metrics-refresh-interval=1s"
    ).fakes
    assert fakes.gauges(3.5).running == 3


@pytest.mark.parametrize(
    ("config", "shown"),
    [('{"kv_connector":"NixlConnector"}', True), ('{"kv_connector":"LMCache"}', False)],
)
def test_a_nixl_connector_is_recognised(config, shown):
    assert parsed("--kv-transfer-config", config).nixl is shown


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
        (["--block-size=17"], "block-size must be one of 1, 8, 16"),
        (["--zmq-endpoint=garbage"], "zmq-endpoint must look like tcp://host:port"),
        (["--zmq-endpoint=tcp://*:99999999"], "zmq-endpoint: the port must lie"),
        (["--zmq-endpoint=tcp://*:x"], "zmq-endpoint: the port must lie"),
        (["--zmq-endpoint=ipc://"], "zmq-endpoint must look like"),
        (["--kv-events-replay-endpoint=5558"], "kv-events-replay-endpoint must look like"),
        (["--kv-events-config", events_json(endpoint=5)], "endpoint must be a string, got 5"),
        (["--kv-events-config", events_json(endpoint="x")], "kv-events-config: endpoint must look"),
        (["--kv-events-config", events_json(replay_endpoint=[])], "replay_endpoint must be"),
        (["--kv-events-config", events_json(topic=7)], "topic must be a string"),
        (["--kv-events-config", events_json(buffer_steps="9")], "buffer_steps must be"),
        (["--kv-events-config", events_json(publisher="nats")], "publisher must be null or zmq"),
        (["--kv-events-config=[]"], "kv-events-config must be a JSON object"),
        (["--kv-transfer-config=x"], "kv-transfer-config is no JSON"),
        (
            ["--time-to-first-token=10ms", "--time-to-first-token-std-dev=4ms"],
            "time-to-first-token-std-dev must not be above 30 % of time-to-first-token",
        ),
        (["--inter-token-latency-std-dev=1ms"], "inter-token-latency-std-dev must not"),
        (["--kv-cache-transfer-latency-std-dev=1ms"], "kv-cache-transfer-latency-std-dev must"),
        (["--kv-cache-transfer-time-std-dev=1ms"], "kv-cache-transfer-time-std-dev must not"),
        (["--min-tool-call-integer-param=101"], "is above max-tool-call-integer-param"),
        (["--ssl-certfile=c"], "ssl-certfile and ssl-keyfile must be given together"),
        (["--ssl-certfile=c", "--ssl-keyfile=k", "--self-signed-certs"], "exclude each other"),
        (["--fake-metrics=x"], "fake-metrics is no JSON"),
        (["--fake-metrics=5"], "fake-metrics must be a JSON object"),
        (["--fake-metrics={}", "--fake-metrics-refresh-interval=0"], "refresh-interval must be"),
        (["--port=65535", "--data-parallel-size=2"], "port 65535: no room"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_values_are_named(args, match):
    with pytest.raises(ValueError, match=match):
        parsed(*args).engine_config()


@pytest.mark.parametrize("args", [["--port=x"], ["--nonsense"], ["--time-to-first-token=soon"]])
def test_wrong_syntax_is_a_usage_error(args):
    with pytest.raises(click.UsageError):
        parsed(*args)
