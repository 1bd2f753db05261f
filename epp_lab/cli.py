"""`epp lab`: replay a workload under policies, in virtual time."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import msgspec

from epp.errors import ConfigError
from epp_lab.baselines import BASELINES, OVERLOAD, POLICIES
from epp_lab.compare import cases, kept, mean, missing, run_all
from epp_lab.compare import chosen as pick
from epp_lab.knee import knee
from epp_lab.markdown import goodput, hit_rate, tables, ttft_p90
from epp_lab.overload import overload_tables
from epp_lab.picker import UnknownPolicy
from epp_lab.plot import lines
from epp_lab.run import Run, run_workload
from epp_lab.tables import show_comparison, show_policies, show_run, show_workloads
from epp_lab.trace import BadTrace, binned_s, find_trace, read_trace
from epp_lab.workload import (
    Workload,
    load_workload,
    overload_names,
    parse_workload,
    workload_names,
)

TRACE_ENDINGS = (".jsonl", ".json", ".csv", ".gz")
TRACE_REPLICAS = 4


class LabGroup(click.Group):
    """A group whose commands say what is wrong with an input instead of raising it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BadTrace, UnknownPolicy, ConfigError) as fault:
            raise click.ClickException(str(fault)) from fault


@click.group("lab", cls=LabGroup)
def command() -> None:
    """Replay traffic under routing policies, in virtual time."""


@command.command("list")
def list_all() -> None:
    """What policies and workloads there are by name."""
    show_policies(POLICIES)
    show_workloads([load_workload(name) for name in (*workload_names(), *overload_names())])


def _asked(function: Any) -> Any:
    """What is replayed: a workload by name, or a trace file and the world around it."""
    for option in reversed(
        [
            click.option(
                "--trace",
                "-t",
                "trace",
                required=True,
                help="A trace file, or a workload: its name or its file.",
            ),
            click.option(
                "--replicas", "-n", type=click.IntRange(1, 1000), help="Size of the pool."
            ),
            click.option(
                "--load",
                type=click.FloatRange(0, min_open=True),
                help="Multiple of the workload's knee.",
            ),
            click.option(
                "--rate",
                type=click.FloatRange(0, min_open=True),
                help="Requests in a second for the pool; default for a trace file: as recorded.",
            ),
            click.option(
                "--requests",
                type=click.IntRange(1),
                help="How many; default: as in the workload, or all of the trace.",
            ),
            click.option(
                "--profile", help="Performance model of the replicas, for example h100-llama-8b."
            ),
            click.option(
                "--kv-tokens", type=click.IntRange(0), help="KV memory of a replica in tokens."
            ),
            click.option(
                "--scrape",
                "scrape_s",
                type=click.FloatRange(0.001),
                help="Seconds between two pages of metrics.",
            ),
            click.option(
                "--slo-ttft",
                type=click.FloatRange(0, min_open=True),
                help="Seconds to the first token.",
            ),
            click.option(
                "--slo-tpot",
                type=click.FloatRange(0, min_open=True),
                help="Seconds for each further token.",
            ),
        ]
    ):
        function = option(function)
    return function


@command.command("run")
@click.option(
    "--policy", "-p", default="default", help="A baseline's name or an EndpointPickerConfig file."
)
@click.option("--seed", "-s", type=int, default=0)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_asked
def run(policy: str, seed: int, as_json: bool, **asked: Any) -> None:
    """Replay one workload under one policy."""
    workload, load = chosen(**asked)
    found = run_workload(workload, policy, load, seed)
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        show_run(found)


@command.command("compare")
@click.option(
    "--policy",
    "-p",
    "policies",
    multiple=True,
    required=True,
    help="A baseline's name or a file; repeat it. Differences are to the first.",
)
@click.option("--seeds", type=click.IntRange(1, 100), default=3, help="How many seeds, from 0.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a run.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Write goodput and TTFT over loads to this folder, as SVG.",
)
@click.option("--loads", help="Several loads with commas between; default: --load.")
@_asked
def compare(
    policies: tuple[str, ...],
    seeds: int,
    as_json: bool,
    plot: Path | None,
    loads: str | None,
    **asked: Any,
) -> None:
    """Replay the same requests under several policies, seed by seed."""
    workload, load = chosen(**asked)
    wanted = _loads(loads) if loads else (load,)
    runs = []
    for found in run_all(cases([workload], policies, seeds, wanted)):
        runs.append(found)
        if as_json:
            sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    if not as_json:
        for each in wanted:
            show_comparison(workload, policies, each, runs)
    if plot:
        _plot(plot, workload.name, policies, runs)


@command.command("table")
@click.option("--policy", "-p", "policies", multiple=True, help="Default: every baseline.")
@click.option("--workload", "-t", "workloads", multiple=True, help="Default: all of them.")
@click.option("--seeds", type=click.IntRange(1, 100), default=5)
@click.option("--loads", default="0.7,0.9,1.1", help="Multiples of the knees.")
@click.option(
    "--scale",
    type=click.FloatRange(0.01, 100),
    default=1.0,
    help="More or fewer requests than a workload says.",
)
@click.option("--processes", type=click.IntRange(1, 256), default=1)
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="File of finished runs: what it holds is not run again.",
)
def table(
    policies: tuple[str, ...],
    workloads: tuple[str, ...],
    seeds: int,
    loads: str,
    scale: float,
    processes: int,
    keep: Path | None,
) -> None:
    """The full table, policies by workloads, as Markdown."""
    found = [scaled(load_workload(name), scale) for name in workloads or workload_names()]
    todo = cases(found, policies or tuple(BASELINES), seeds, _loads(loads))
    done = kept(keep) if keep else []
    with keep.open("ab") if keep else nullcontext() as stream:
        for run in run_all(missing(todo, done), processes):
            done.append(run)
            if stream:
                stream.write(msgspec.json.encode(run) + b"\n")
                stream.flush()
    for load in _loads(loads):
        sys.stdout.write(f"### At {load:g} of the knee\n\n{tables(done, load)}\n")


@command.command("overload")
@click.option("--policy", "-p", "policies", multiple=True, help="Default: those for overload.")
@click.option("--workload", "-t", "workloads", multiple=True, help="Default: overload-1.5 and -3.")
@click.option("--seeds", type=click.IntRange(1, 100), default=2)
@click.option("--loads", help="Other multiples of the knees than the workloads name.")
@click.option("--scale", type=click.FloatRange(0.01, 100), default=1.0, help="As in `table`.")
@click.option("--processes", type=click.IntRange(1, 256), default=1)
def overload(
    policies: tuple[str, ...],
    workloads: tuple[str, ...],
    seeds: int,
    loads: str | None,
    scale: float,
    processes: int,
) -> None:
    """More requests than there is room for: who is served, who is refused, as Markdown."""
    found = [scaled(load_workload(name), scale) for name in workloads or overload_names()]
    todo = cases(found, policies or ("default", *OVERLOAD), seeds, _loads(loads) if loads else ())
    sys.stdout.write(overload_tables(list(run_all(todo, processes))))


@command.command("knee")
@click.argument("workload")
@click.option("--policy", "-p", default="precise")
@click.option("--seeds", type=click.IntRange(1, 100), default=1)
def find_knee(workload: str, policy: str, seeds: int) -> None:
    """The highest rate at which POLICY meets the SLO of WORKLOAD for nine requests in ten."""
    found = knee(load_workload(workload), policy, range(seeds))
    sys.stdout.write(f"{found:.3f} requests in a second for each replica\n")


def scaled(workload: Workload, factor: float) -> Workload:
    """The same with more or fewer requests."""
    return workload.model_copy(update={"count": max(round(workload.count * factor), 1)})


def _loads(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError as fault:
        raise click.BadParameter(f"{text!r}: give numbers with commas between") from fault
    if any(load <= 0 for load in found):
        raise click.BadParameter(f"{text!r}: loads are above 0")
    return found


def _plot(folder: Path, workload: str, policies: tuple[str, ...], runs: list[Run]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, read in {"goodput": goodput, "ttft-p90": ttft_p90, "hit-rate": hit_rate}.items():
        series = {
            policy: [
                (load, mean(cell, read).mean)
                for load in sorted({run.load for run in runs})
                if (cell := pick(runs, workload, policy, load))
            ]
            for policy in policies
        }
        text = lines(f"{workload}: {name}", "load (multiples of the knee)", name, series)
        (folder / f"{workload}-{name}.svg").write_text(text, encoding="utf-8")


def chosen(
    trace: str, load: float | None, rate: float | None, **asked: Any
) -> tuple[Workload, float]:
    """The workload that options describe, and the load to run it at. Raises BadTrace."""
    workload = _described(trace, asked)
    if rate is not None:
        return workload, rate / (workload.knee * workload.replicas)
    return workload, load if load is not None else usual_load(workload)


def usual_load(workload: Workload) -> float:
    """The only load a workload names, else its knee."""
    return workload.loads[0] if len(workload.loads) == 1 else 1.0


def _described(trace: str, asked: dict[str, Any]) -> Workload:
    changes = {name: value for name, value in asked.items() if value is not None}
    given = (
        _trace_file(trace, changes.get("replicas", TRACE_REPLICAS))
        if trace.endswith(TRACE_ENDINGS)
        else load_workload(trace).model_dump()
    )
    for name, place in {
        "replicas": ("replicas",),
        "requests": ("count",),
        "profile": ("replica", "profile"),
        "kv_tokens": ("replica", "kv_tokens"),
        "scrape_s": ("scrape_s",),
        "slo_ttft": ("slo", "ttft_s"),
        "slo_tpot": ("slo", "tpot_s"),
    }.items():
        if name in changes:
            _put(given, place, changes[name])
    return parse_workload(given, trace)


def _put(data: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    for name in place[:-1]:
        data = data[name]
    data[place[-1]] = value


def _trace_file(name: str, replicas: int) -> dict[str, Any]:
    """A workload around a trace: as many requests and as fast as recorded, with plain defaults."""
    jobs = read_trace(find_trace(name))
    lasts = jobs[-1].arrival or 1.0
    return {
        "name": Path(name).name,
        "about": "a trace file",
        "requests": {"kind": "trace", "file": name, "bin_s": binned_s(jobs)},
        "count": len(jobs),
        "replicas": replicas,
        "replica": {"profile": "h100-llama-8b"},
        "knee": len(jobs) / lasts / replicas,
        "slo": {"ttft_s": 2.0, "tpot_s": 0.1},
        "warmup_share": 0.1,
    }
