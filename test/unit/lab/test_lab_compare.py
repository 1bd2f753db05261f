"""Comparisons: the same seeds, resumable, and drawn."""

import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from support.lab_workloads import workload as small

from epp_lab.cli import command
from epp_lab.compare import cases, difference, kept, missing, run_all, spread
from epp_lab.markdown import goodput, tables
from epp_lab.picker import policy_text
from epp_lab.plot import lines
from epp_lab.run import Run
from epp_lab.workload import load_workload


@pytest.fixture(scope="module")
def runs():
    workload = load_workload("bursts").model_copy(update={"count": 60})
    return list(run_all(cases([workload], ["default", "random"], 2, [0.9])))


def test_a_difference_to_itself_is_nothing(runs):
    mine = [run for run in runs if run.policy == "default"]

    assert difference(mine, mine, goodput) == spread([0.0, 0.0])


def test_what_is_kept_is_not_run_again(runs, tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(run) for run in runs[:3]))
    workload = load_workload("bursts").model_copy(update={"count": 60})
    todo = cases([workload], ["default", "random"], 2, [0.9])

    assert len(missing(todo, kept(path))) == 1


@pytest.mark.parametrize(
    "changes",
    [{"count": 61}, {"replicas": 5}, {"scrape_s": 1.0}, {"knee": 12.0}],
    ids=["requests", "replicas", "scrape", "knee"],
)
def test_a_kept_run_of_another_workload_under_the_same_name_is_run_again(runs, changes):
    workload = load_workload("bursts").model_copy(update={"count": 60} | changes)
    todo = cases([workload], ["default", "random"], 2, [0.9])

    assert missing(todo, runs) == todo


def test_a_kept_run_of_a_policy_whose_file_changed_is_run_again(tmp_path):
    policy = tmp_path / "mine.yaml"
    policy.write_text(policy_text("go-default"))
    workload = load_workload("bursts").model_copy(update={"count": 12})
    todo = cases([workload], [str(policy)], 1, [0.9])
    done = list(run_all(todo))

    assert missing(todo, done) == []
    policy.write_text(policy_text("sticky"))
    assert missing(todo, done) == todo


def test_a_kept_run_of_a_trace_whose_file_changed_is_run_again(tmp_path):
    day = tmp_path / "day.jsonl"
    row = '{"timestamp": %d, "input_length": 10, "output_length": 1}\n'
    day.write_text("".join(row % at for at in range(0, 9000, 1000)))
    todo = cases([small({"kind": "trace", "file": str(day)}, count=9, knee=1.0)], ["random"], 1)
    done = list(run_all(todo[:1]))

    assert missing(todo[:1], done) == []
    day.write_text("".join(row % at for at in range(0, 99_000, 11_000)))
    assert missing(todo[:1], done) == todo[:1]


def without_fingerprint(runs):
    old = [msgspec.to_builtins(run) for run in runs]
    return [msgspec.convert({k: v for k, v in run.items() if k != "made_of"}, Run) for run in old]


@pytest.mark.parametrize(("count", "again"), [(60, 0), (120, 4)])
def test_old_kept_runs_fit_if_they_had_as_many_requests(runs, count, again):
    workload = load_workload("bursts").model_copy(update={"count": count})
    todo = cases([workload], ["default", "random"], 2, [0.9])

    assert len(missing(todo, without_fingerprint(runs))) == again


def test_a_table_shows_nothing_of_kept_runs_at_another_scale(tmp_path):
    keep = str(tmp_path / "runs.jsonl")
    args = ["table", "-p", "random", "-t", "bursts", "--seeds", "1", "--loads", "0.9"]
    shown = [
        CliRunner().invoke(command, [*args, "--scale", scale, *more]).output
        for scale, more in (("0.02", ["--keep", keep]), ("0.04", ["--keep", keep]), ("0.04", []))
    ]

    assert shown[1] == shown[2] != shown[0]
    assert len(Path(keep).read_bytes().splitlines()) == 2


def test_the_table_has_a_row_for_each_workload_and_a_column_for_each_policy(runs):
    assert "| workload | default | random |" in tables(runs, 0.9)


def test_a_plot_is_xml_with_a_line_for_each_policy():
    drawn = ET.fromstring(lines("t", "x", "y", {"a": [(0.7, 1), (1, 2)], "b": [(1, 0)]}))

    assert len(drawn.findall("{*}polyline")) == 2


def test_the_command_plots_what_it_compares(tmp_path):
    args = ["compare", "-p", "random", "-t", "bursts", "--seeds", "1", "--requests", "30"]
    done = CliRunner().invoke(command, [*args, "--loads", "0.5,1", "--plot", str(tmp_path)])

    assert done.exit_code == 0, done.output
    assert (tmp_path / "bursts-goodput.svg").read_text().startswith("<svg")


def test_one_run_prints_one_json_object():
    args = ["run", "-p", "random", "-t", "bursts", "--requests", "30", "--seed", "4", "--json"]
    done = CliRunner().invoke(command, args)

    assert msgspec.json.decode(done.output)["seed"] == 4


@pytest.mark.parametrize("replicas", [2, 4, 8])
def test_a_trace_file_runs_as_fast_as_recorded_on_any_number_of_replicas(tmp_path, replicas):
    day = tmp_path / "day.jsonl"
    row = '{"timestamp": %d, "input_length": 10, "output_length": 1}\n'
    day.write_text("".join(row % (at * 250) for at in range(40)))
    args = ["run", "-p", "random", "-t", str(day), "--replicas", str(replicas), "--json"]
    done = CliRunner().invoke(command, args)

    assert msgspec.json.decode(done.output)["measure"]["offered_rate"] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["-t", "bursts", "--profile", "none"], "choose one of: a100-llama-8b"),
        (["-t", "broken.yaml"], "broken.yaml: is not YAML"),
    ],
)
def test_a_wrong_input_is_named_and_not_raised(tmp_path, monkeypatch, args, says):
    (tmp_path / "broken.yaml").write_text("name: [")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(command, ["run", *args])

    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert says in done.output
