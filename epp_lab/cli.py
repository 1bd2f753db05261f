"""`epp lab`: replay a workload under policies, in virtual time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from epp.errors import ConfigError
from epp_lab.baselines import BASELINES
from epp_lab.picker import UnknownPolicy
from epp_lab.run import run_workload
from epp_lab.tables import show_policies, show_run, show_workloads
from epp_lab.trace import BadTrace, binned_s, find_trace, read_trace
from epp_lab.workload import Workload, load_workload, parse_workload, workload_names

TRACE_ENDINGS = (".jsonl", ".json", ".csv", ".gz")


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
    show_policies(BASELINES)
    show_workloads([load_workload(name) for name in workload_names()])


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


def chosen(
    trace: str, load: float | None, rate: float | None, **asked: Any
) -> tuple[Workload, float]:
    """The workload that options describe, and the load to run it at. Raises BadTrace."""
    workload = _described(trace, asked)
    if rate is not None:
        return workload, rate / (workload.knee * workload.replicas)
    return workload, load if load is not None else 1.0


def _described(trace: str, asked: dict[str, Any]) -> Workload:
    changes = {name: value for name, value in asked.items() if value is not None}
    given = (
        _trace_file(trace) if trace.endswith(TRACE_ENDINGS) else load_workload(trace).model_dump()
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


def _trace_file(name: str) -> dict[str, Any]:
    """A workload around a trace: as many requests and as fast as recorded, with plain defaults."""
    jobs = read_trace(find_trace(name))
    lasts = jobs[-1].arrival or 1.0
    replicas = 4
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
