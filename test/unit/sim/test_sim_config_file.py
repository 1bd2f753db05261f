"""`--config`: a file says what flags say, and they win over it."""

from __future__ import annotations

import click
import pytest

from vllm_sim.cli import main
from vllm_sim.given import options_from

EVERYTHING = """
port: 9000
model: base
served-model-name: [a, b]
max-num-seqs: 7
hash-seed: 100
enable-request-id-headers: true
mode: echo
time-to-first-token: 250ms
latencies:
  inter-token-latency: 20ms
  time-factor-under-load: 2
kvcache:
  kv-cache-size: 2048
  block-size: 32
lora-modules:
- '{"name":"x","path":"/x"}'
- {name: y}
fake-metrics:
  running-requests: ramp:0:10:10s
  loras: ['{"running":"x","waiting":"","timestamp":5}']
enforce-eager: true
"""


@pytest.fixture
def parsed(tmp_path, monkeypatch):
    monkeypatch.delenv("SIM_MODEL", raising=False)
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)

    def parse(text, *args):
        path = tmp_path / "sim.yaml"
        path.write_text(text)
        with main.make_context("vllm-sim", ["--config", str(path), *args]) as ctx:
            return options_from(ctx.params)

    return parse


def test_every_kind_of_value_is_read(parsed):
    options = parsed(EVERYTHING)
    assert (options.port, options.model, options.names) == (9000, "base", ("a", "b"))
    assert (options.max_num_seqs, options.hash_seed) == (7, "100")
    assert (options.request_id_headers, options.mode) == (True, "echo")
    assert (options.pacing.ttft, options.pacing.itl, options.pacing.load_factor) == (0.25, 0.02, 2)
    assert (options.kv_blocks, options.block_size) == (2048, 32)
    assert [lora.name for lora in options.lora_modules] == ["x", "y"]
    assert options.fakes.gauges(5).running == 5
    assert options.fakes.loras[0].at == 5


def test_a_flag_wins_over_the_file(parsed):
    options = parsed(EVERYTHING, "--port=9001", "--time-to-first-token=1s")
    assert (options.port, options.pacing.ttft, options.pacing.itl) == (9001, 1.0, 0.02)


def test_the_environment_stands_between_flag_and_file(parsed, monkeypatch):
    monkeypatch.setenv("SIM_MODEL", "from-environment")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    assert (parsed(EVERYTHING).model, parsed(EVERYTHING).hash_seed) == ("from-environment", "7")
    assert parsed(EVERYTHING, "--model=flag", "--hash-seed=9").model == "flag"


def test_an_empty_file_says_nothing(parsed):
    assert parsed("").port == 8000


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("prot: 9000", "'prot' is no flag"),
        ("- port", "must be a mapping"),
        ("port: [", "is no YAML"),
        ("port: many", "'many' is not a valid integer"),
        ("omni: true", "--omni: vllm-sim makes no images"),
        ("config: other.yaml", "'config' is no flag"),
    ],
    ids=str,
)
def test_a_wrong_file_is_named(parsed, text, match):
    with pytest.raises(click.UsageError, match=match):
        parsed(text)


def test_a_missing_file_is_named(tmp_path):
    args = ["--config", str(tmp_path / "none.yaml")]
    with pytest.raises(click.UsageError, match=r"none\.yaml cannot be read: No such file"):
        main.make_context("vllm-sim", args)
