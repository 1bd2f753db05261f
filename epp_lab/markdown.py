"""The full table, policies by workloads, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from epp_lab.compare import Read, chosen, mean
from epp_lab.measure import Measure
from epp_lab.run import Run

WITHIN: Final = 0.03
"""Nearer to the best than this counts as good as the best."""


def goodput(measure: Measure) -> float:
    """Share of the requests that met the SLO."""
    return measure.goodput


def ttft_p90(measure: Measure) -> float:
    """Seconds."""
    return measure.ttft.p90


def hit_rate(measure: Measure) -> float:
    """Share of prompt tokens that came from caches."""
    return measure.hit_rate


def imbalance(measure: Measure) -> float:
    """Busiest replica's computed prompt tokens over the mean."""
    return measure.imbalance


TABLES: Final[Sequence[tuple[str, Read, str, bool]]] = (
    ("Goodput (share of requests within the SLO)", goodput, "{:.1%}", True),
    ("TTFT p90 (s)", ttft_p90, "{:.2f}", False),
    ("Hit rate (share of prompt tokens)", hit_rate, "{:.1%}", True),
    ("Imbalance (computed prompt tokens, largest over mean)", imbalance, "{:.2f}", False),
)
"""Title, number, how it is written, whether more is better."""


def tables(runs: Sequence[Run], load: float) -> str:
    """Every table at one load: means over seeds; the best of a row is bold."""
    here = [run for run in runs if run.load == load]
    workloads = _in_order(run.workload for run in here)
    policies = _in_order(run.policy for run in here)
    parts = []
    for title, read, form, most in TABLES:
        rows = [_row(here, name, policies, load, read, form, most) for name in workloads]
        head = f"| workload | {' | '.join(policies)} |"
        rule = "|---" * (len(policies) + 1) + "|"
        parts.append("\n".join([f"#### {title}", "", head, rule, *rows]))
    return "\n\n".join(parts) + "\n"


def _row(
    runs: Sequence[Run],
    workload: str,
    policies: Sequence[str],
    load: float,
    read: Read,
    form: str,
    most: bool,
) -> str:
    means = {
        p: mean(cell, read).mean for p in policies if (cell := chosen(runs, workload, p, load))
    }
    best = max(means.values()) if most else min(means.values())
    cells = []
    for policy in policies:
        text = form.format(means[policy]) if policy in means else ""
        bold = policy in means and form.format(means[policy]) == form.format(best)
        cells.append(f"**{text}**" if bold else text)
    return f"| {workload} | {' | '.join(cells)} |"


def behind(runs: Sequence[Run], policy: str) -> Iterator[str]:
    """Where `policy` is further than `WITHIN` from the best: one line for each case."""
    for workload in _in_order(run.workload for run in runs):
        for load in sorted({run.load for run in runs if run.workload == workload}):
            for title, read, form, most in TABLES[:2]:
                line = _gap(runs, workload, load, policy, (title, read, form, most))
                if line:
                    yield line


def _gap(
    runs: Sequence[Run],
    workload: str,
    load: float,
    policy: str,
    table: tuple[str, Read, str, bool],
) -> str:
    title, read, form, most = table
    names = _in_order(r.policy for r in runs if r.workload == workload and r.load == load)
    means = {name: mean(chosen(runs, workload, name, load), read).mean for name in names}
    if policy not in means:
        return ""
    best = (max if most else min)(means, key=lambda name: means[name])
    gap = (means[best] - means[policy]) * (1 if most else -1)
    if gap <= WITHIN * means[best]:
        return ""
    mine, theirs = form.format(means[policy]), form.format(means[best])
    return f"| {workload} | {load:g} | {title} | {mine} | {theirs} ({best}) |"


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
