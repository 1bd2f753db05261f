"""`epp lab`: replay a workload under policies, in virtual time."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import click
import msgspec

from epp.errors import ConfigError
from epp_lab.asked import asked, chosen, described, world
from epp_lab.baselines import BASELINES, OVERLOAD, POLICIES
from epp_lab.compare import cases, fitting, kept, mean, missing, run_all
from epp_lab.compare import chosen as pick
from epp_lab.knee import NoKnee, knee
from epp_lab.markdown import goodput, hit_rate, tables, ttft_p90
from epp_lab.overload import overload_tables
from epp_lab.picker import UnknownPolicy
from epp_lab.plot import lines
from epp_lab.run import Run, run_workload
from epp_lab.tables import show_comparison, show_policies, show_run, show_workloads
from epp_lab.trace import BadTrace
from epp_lab.workload import (
    Workload,
    all_names,
    load_workload,
    names_like,
    overload_names,
    workload_names,
)

SEVERAL = "A name, a file, or a pattern as `more-*`. Default: the eleven of the full table."


class LabGroup(click.Group):
    """A group whose commands say what is wrong with an input instead of raising it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BadTrace, UnknownPolicy, ConfigError, NoKnee) as fault:
            raise click.ClickException(str(fault)) from fault


@click.group("lab", cls=LabGroup)
def command() -> None:
    """Replay traffic under routing policies, in virtual time."""


@command.command("list")
def list_all() -> None:
    """What policies and workloads there are by name."""
    show_policies(POLICIES)
    show_workloads([load_workload(name) for name in all_names()])


@command.command("run")
@click.option(
    "--policy", "-p", default="default", help="A baseline's name or an EndpointPickerConfig file."
)
@click.option("--seed", "-s", type=int, default=0)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@asked
def run(policy: str, seed: int, as_json: bool, **options: Any) -> None:
    """Replay one workload under one policy."""
    workload, load = chosen(**options)
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
@asked
def compare(
    policies: tuple[str, ...],
    seeds: int,
    as_json: bool,
    plot: Path | None,
    loads: str | None,
    **options: Any,
) -> None:
    """Replay the same requests under several policies, seed by seed."""
    if loads and (options["rate"] or options["load"]):
        raise click.UsageError("--loads stands for --load and --rate; give one of the three")
    workload, load = chosen(**options)
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
@click.option("--workload", "-t", "workloads", multiple=True, help=SEVERAL)
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
    help="File of finished runs: what it holds of the same policies and workloads is kept.",
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
    names = chain.from_iterable(map(names_like, workloads))
    found = [scaled(load_workload(name), scale) for name in list(names) or workload_names()]
    todo = cases(found, policies or tuple(BASELINES), seeds, _loads(loads))
    done = fitting(todo, kept(keep)) if keep else []
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
@world
def find_knee(workload: str, policy: str, seeds: int, **options: Any) -> None:
    """The highest rate at which POLICY meets the SLO of WORKLOAD for nine requests in ten.

    WORKLOAD is a name, a workload file or a trace file.
    """
    found = knee(described(workload, options), policy, range(seeds))
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
