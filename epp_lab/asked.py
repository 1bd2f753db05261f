"""What is replayed, by options: a workload by name, or a trace file and the world around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from epp_lab.trace import binned_s, find_trace, read_trace, turns_in
from epp_lab.workload import Workload, load_workload, parse_workload

TRACE_ENDINGS: Final = (".jsonl", ".json", ".csv", ".gz")
TRACE_REPLICAS: Final = 4

PACE: Final = (
    click.option(
        "--load", type=click.FloatRange(0, min_open=True), help="Multiple of the workload's knee."
    ),
    click.option(
        "--rate",
        type=click.FloatRange(0, min_open=True),
        help="Requests in a second for the pool; default for a trace file: as recorded.",
    ),
)
WORLD: Final = (
    click.option("--replicas", "-n", type=click.IntRange(1, 1000), help="Size of the pool."),
    click.option(
        "--requests",
        type=click.IntRange(1),
        help="How many; default: as in the workload, or all of the trace.",
    ),
    click.option("--profile", help="Performance model of the replicas, for example h100-llama-8b."),
    click.option("--kv-tokens", type=click.IntRange(0), help="KV memory of a replica in tokens."),
    click.option(
        "--max-loras", type=click.IntRange(0), help="LoRA adapters that a replica has at a time."
    ),
    click.option(
        "--scrape",
        "scrape_s",
        type=click.FloatRange(0.001),
        help="Seconds between two pages of metrics.",
    ),
    click.option(
        "--slo-ttft", type=click.FloatRange(0, min_open=True), help="Seconds to the first token."
    ),
    click.option(
        "--slo-tpot",
        type=click.FloatRange(0, min_open=True),
        help="Seconds for each further token.",
    ),
)
PLACES: Final = {
    "replicas": ("replicas",),
    "requests": ("count",),
    "profile": ("replica", "profile"),
    "kv_tokens": ("replica", "kv_tokens"),
    "max_loras": ("replica", "max_loras"),
    "scrape_s": ("scrape_s",),
    "slo_ttft": ("slo", "ttft_s"),
    "slo_tpot": ("slo", "tpot_s"),
}
"""Where an option of `WORLD` stands in a workload file."""


def asked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which a run is described."""
    trace = click.option(
        "--trace",
        "-t",
        "trace",
        required=True,
        help="A trace file, or a workload: its name or its file.",
    )
    return trace(world(function, PACE))


def world(function: Callable[..., Any], first: tuple[Any, ...] = ()) -> Callable[..., Any]:
    """The options that change a workload or surround a trace file."""
    for option in reversed((*first, *WORLD)):
        function = option(function)
    return function


def chosen(
    trace: str, load: float | None, rate: float | None, **changes: Any
) -> tuple[Workload, float]:
    """The workload that options describe, and the load to run it at. Raises BadTrace."""
    workload = described(trace, changes)
    if rate is None:
        return workload, load if load is not None else usual_load(workload)
    if load is not None:
        raise click.UsageError("--load and --rate say the same thing; give one of them")
    if workload.closed:
        raise click.UsageError(f"{workload.name} is a closed load, which has no rate; give --load")
    return workload, rate / (workload.knee * workload.replicas)


def usual_load(workload: Workload) -> float:
    """The only load a workload names, else its knee."""
    return workload.loads[0] if len(workload.loads) == 1 else 1.0


def described(trace: str, changes: dict[str, Any]) -> Workload:
    """A workload or a trace file with what options change. Raises BadTrace."""
    changes = {name: value for name, value in changes.items() if value is not None}
    given = (
        _trace_file(trace, changes.get("replicas", TRACE_REPLICAS))
        if trace.endswith(TRACE_ENDINGS)
        else load_workload(trace).model_dump()
    )
    for name, value in changes.items():
        _put(given, PLACES[name], value)
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
        "count": turns_in(jobs),
        "replicas": replicas,
        "replica": {"profile": "h100-llama-8b"},
        "knee": turns_in(jobs) / lasts / replicas,
        "slo": {"ttft_s": 2.0, "tpot_s": 0.1},
        "warmup_share": 0.1,
    }
