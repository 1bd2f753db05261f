"""Inputs that cannot be: each is refused with the field's name and what to do, none is raised."""

import gzip

import pytest
from click.testing import CliRunner
from support.lab_workloads import prefixes, sessions, workload

from epp_lab.cli import command
from epp_lab.job import Job
from epp_lab.measure import measure
from epp_lab.simulation import Member, Setting, Simulation
from epp_lab.trace import BadTrace
from vllm_sim.engine import EngineConfig

ROW = '{"timestamp": %d, "input_length": 10, "output_length": 1}\n'
LEVELS = [{"concurrency_level": 2, "num_requests": 6}]


@pytest.fixture
def day(tmp_path):
    path = tmp_path / "day.jsonl"
    path.write_text("".join(ROW % (at * 250) for at in range(40)))
    return path


def refused(*args):
    done = CliRunner().invoke(command, args)

    assert done.exit_code in (1, 2), done.output
    assert isinstance(done.exception, SystemExit)
    return done.output


@pytest.mark.parametrize(
    ("requests", "given", "says"),
    [
        (
            prefixes(),
            {"odd": [{"replica": 2}]},
            r"odd\.0\.replica is 2, of 2 replicas; give 0\.\.1",
        ),
        (prefixes(output_len={"type": "lognormal"}), {}, r"output_len: mean of a lognormal is 0"),
        (prefixes(output_len={"type": "uniform"}), {}, r"output_len: max of a uniform is missing"),
        (prefixes(output_len={"min": 9, "max": 3}), {}, r"min 9 is above max 3"),
        (
            prefixes(lora_traffic_split=[["a", 1.0]]),
            {},
            r"replica\.max_loras is 0, but requests\.lora_traffic_split asks for adapters; set it",
        ),
        (prefixes(lora_traffic_split=[["a", 0.0]]), {}, r"every split is 0; give one above"),
        (
            sessions(arrivals="concurrent", stages=LEVELS),
            {"odd": [{"replica": 0, "joins_at_share": 0.5}]},
            r"odd\.0: nobody knows how long a closed load lasts",
        ),
    ],
    ids=["odd", "lognormal", "uniform", "turned", "adapters", "splits", "closed"],
)
def test_a_workload_that_cannot_be_says_where_and_what_to_do(requests, given, says):
    with pytest.raises(BadTrace, match=f"here: .*{says}"):
        workload(requests, **{"count": 10, "knee": 1.0, **given})


def test_a_trace_with_adapters_needs_slots_for_them(tmp_path):
    path = tmp_path / "day.jsonl"
    path.write_text(ROW.replace("}", ', "model": "a", "adapter": true}') % 0)
    done = CliRunner().invoke(command, ["run", "-t", str(path), "-p", "random", "--max-loras", "2"])

    assert "set it to how many fit at a time (`--max-loras`)" in refused("run", "-t", str(path))
    assert done.exit_code == 0, done.output


def test_what_an_engine_refuses_has_failed_and_is_not_shed():
    config = EngineConfig.named("h100-llama-8b", block_size=64)
    jobs = [
        Job(arrival=0.0, prompt=((1, 900_000),), output_tokens=1),
        Job(arrival=0.1, prompt=((2, 10),), output_tokens=1, model="a", adapter=True),
    ]
    found = Simulation("random", jobs, Setting(members=(Member(config),)), 0).run().outcomes
    got = measure(found, ttft_s=1, tpot_s=1, replicas=1)

    assert got.refused == {"too-long": 1, "no-lora-slots": 1}
    assert (got.shed, got.failed) == (0, 2)


@pytest.mark.parametrize("damage", [lambda b: b[:40], lambda b: b"x" + b, lambda b: b[:-20]])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "day.jsonl.gz"
    path.write_bytes(damage(gzip.compress(b"".join((ROW % at).encode() for at in range(99)))))

    assert "is damaged" in refused("run", "-t", str(path))


def test_a_packed_file_without_its_ending_is_named(tmp_path):
    path = tmp_path / "day.jsonl"
    path.write_bytes(gzip.compress(b"{}"))

    assert "name it .gz" in refused("run", "-t", str(path))


def test_a_short_row_of_a_table_is_named(tmp_path):
    path = tmp_path / "day.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,5\n")

    assert "day.csv:2:" in refused("run", "-t", str(path))


def test_a_trace_file_has_a_knee(tmp_path):
    busy = tmp_path / "busy.jsonl"
    row = ROW.replace('"input_length": 10', '"input_length": 4000')
    busy.write_text("".join(row % (at * 250) for at in range(40)))
    args = ["knee", str(busy), "-p", "random", "-n", "1", "--slo-ttft", "0.6"]
    done = CliRunner().invoke(command, args)

    assert done.exit_code == 0, done.output
    assert 4 < float(done.output.split()[0]) < 32


def test_where_there_is_no_knee_the_change_is_named(day):
    said = refused("knee", str(day), "-p", "random")

    assert "give fewer replicas, a stricter SLO or, in a file, a higher knee" in said


def test_a_closed_load_has_no_knee_and_no_rate():
    assert "closed load" in refused("knee", "more-interactive")
    assert "give --load" in refused("run", "-t", "more-interactive", "--rate", "3")


@pytest.mark.parametrize("args", [["--loads", "1", "--rate", "3"], ["--loads", "1", "--load", "2"]])
def test_loads_are_given_once(args):
    assert "give one of the three" in refused("compare", "-p", "random", "-t", "bursts", *args)


def test_a_load_is_no_rate():
    assert "give one of them" in refused("run", "-t", "bursts", "--load", "1", "--rate", "3")


def test_a_run_prints_every_quantile_and_every_class():
    args = ["run", "-p", "random", "-t", "more-priorities", "--requests", "60"]
    shown = CliRunner(env={"COLUMNS": "160"}).invoke(command, args).output

    for name in ("TTFT", "TPOT", "E2E"):
        assert all(f"{name} {quantile}" in shown for quantile in ("p50", "p90", "p99"))
        assert f"{name} p50 p90 p99" in shown
    assert all(name in shown for name in ("Jain", "shed", "failed", "│ 100", "│ -10"))
