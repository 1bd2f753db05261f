"""What people read: tables on a terminal, and the same in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from epp_lab.baselines import Baseline
from epp_lab.compare import Read, chosen, difference, mean
from epp_lab.markdown import goodput, hit_rate, ttft_p90
from epp_lab.measure import ClassMeasure, Measure, Quantiles
from epp_lab.run import Run
from epp_lab.workload import Workload

COLUMNS: Final[Mapping[str, Callable[[Measure], str]]] = {
    "goodput": lambda m: f"{m.goodput:.1%}",
    "TTFT p50": lambda m: f"{m.ttft.p50:.2f}",
    "TTFT p90": lambda m: f"{m.ttft.p90:.2f}",
    "TTFT p99": lambda m: f"{m.ttft.p99:.2f}",
    "TPOT p50": lambda m: f"{m.tpot.p50 * 1e3:.1f}",
    "TPOT p90": lambda m: f"{m.tpot.p90 * 1e3:.1f}",
    "TPOT p99": lambda m: f"{m.tpot.p99 * 1e3:.1f}",
    "E2E p50": lambda m: f"{m.e2e.p50:.2f}",
    "E2E p90": lambda m: f"{m.e2e.p90:.2f}",
    "E2E p99": lambda m: f"{m.e2e.p99:.2f}",
    "hit": lambda m: f"{m.hit_rate:.1%}",
    "imbalance": lambda m: f"{m.imbalance:.2f}",
    "out tok/s": lambda m: f"{m.output_rate:.0f}",
    "shed": lambda m: str(m.shed),
    "failed": lambda m: str(m.failed),
    "preempted": lambda m: str(m.preemptions),
    "Jain": lambda m: f"{m.jain:.3f}",
    "fairness": lambda m: f"{m.fairness:.3f}",
    "wait p90": lambda m: f"{m.waited.p90:.2f}",
}
"""What is shown of a run. TTFT and E2E in seconds, TPOT in milliseconds."""


PAIRED: Final[Mapping[str, Read]] = {
    "goodput": goodput,
    "TTFT p90": ttft_p90,
    "hit": hit_rate,
}
"""What policies are compared by, seed by seed."""


def show_comparison(
    workload: Workload,
    policies: Sequence[str],
    load: float,
    runs: Sequence[Run],
    console: Console | None = None,
) -> None:
    """Means over seeds with 95 % intervals, and differences to the first policy, seed by seed."""
    console = console or Console()
    table = Table("policy", *PAIRED, *(f"{name} vs {policies[0]}" for name in PAIRED))
    first = chosen(runs, workload.name, policies[0], load)
    for policy in policies:
        cell = chosen(runs, workload.name, policy, load)
        means = [str(mean(cell, read)) for read in PAIRED.values()]
        gaps = [str(difference(cell, first, read)) for read in PAIRED.values()]
        table.add_row(policy, *means, *(gaps if policy != policies[0] else [""] * len(gaps)))
    pace = workload.pace(load)
    console.print(f"{workload.name} at a load of {load:g}, {pace}, {len(first)} seeds")
    console.print(table)
    for policy in policies:
        last = chosen(runs, workload.name, policy, load)[0]
        cells = ", ".join(f"{name} {cell(last.measure)}" for name, cell in COLUMNS.items())
        console.print(f"{policy}, seed {last.seed}: {cells}")
        _show_all_classes(last.measure, console)


def show_run(run: Run, console: Console | None = None) -> None:
    """One run, one number a line; then its classes if there are several."""
    console = console or Console()
    measure = run.measure
    console.print(
        f"{run.workload} under {run.policy}: {measure.requests} requests measured on "
        f"{run.replicas} replicas, {run.virtual_s:.0f} s of virtual time in {run.wall_s:.1f} s"
    )
    table = Table("", "", show_header=False)
    for name, cell in COLUMNS.items():
        table.add_row(name, cell(measure))
    console.print(table)
    for reason, count in measure.refused.items():
        console.print(f"refused as {reason}: {count}")
    _show_all_classes(measure, console)


def _show_all_classes(measure: Measure, console: Console) -> None:
    """Nothing where there is one class only."""
    if len(measure.classes) > 1:
        _show_classes(measure.classes, console)
    if len(measure.criticalities) > len(measure.classes):
        _show_classes(measure.criticalities, console)


def _show_classes(classes: Mapping[str, ClassMeasure], console: Console) -> None:
    counts = ("requests", "served", "goodput")
    table = Table("priority", *counts, *(f"{name} p50 p90 p99" for name in ("TTFT", "TPOT", "E2E")))
    for name, each in classes.items():
        table.add_row(
            name,
            str(each.requests),
            str(each.served),
            f"{each.goodput:.1%}",
            *(_three(each.ttft), _three(each.tpot, 1e3, 1), _three(each.e2e)),
        )
    console.print(table)


def _three(found: Quantiles, times: float = 1.0, digits: int = 2) -> str:
    return " ".join(f"{each * times:.{digits}f}" for each in (found.p50, found.p90, found.p99))


def show_policies(policies: Mapping[str, Baseline], console: Console | None = None) -> None:
    """Baselines by name."""
    table = Table("policy", "what it is")
    for name, baseline in policies.items():
        table.add_row(name, baseline.about)
    (console or Console()).print(table)


def show_workloads(workloads: Iterable[Workload], console: Console | None = None) -> None:
    """Workloads by name."""
    table = Table("workload", "what it is", "replicas", "requests", "knee (req/s a replica)")
    for each in workloads:
        knee = "closed" if each.closed else f"{each.knee:g}"
        table.add_row(each.name, each.about, str(each.replicas), str(each.count), knee)
    (console or Console()).print(table)
