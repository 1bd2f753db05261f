"""Tables of overload: what the pool still gives, who gets it, and who is told what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from epp_lab.compare import chosen, mean
from epp_lab.measure import Measure
from epp_lab.run import Run

T = TypeVar("T")

FIRST: Final[Sequence[tuple[str, Callable[[Measure], float], str]]] = (
    ("good/s", lambda m: m.goodput_rate, "{:.1f}"),
    ("served", lambda m: m.served / m.requests, "{:.0%}"),
    ("good of served", lambda m: m.goodput * m.requests / max(m.served, 1), "{:.0%}"),
    ("TTFT p50", lambda m: m.ttft.p50, "{:.2f}"),
    ("p90", lambda m: m.ttft.p90, "{:.2f}"),
    ("p99", lambda m: m.ttft.p99, "{:.2f}"),
    ("hit", lambda m: m.hit_rate, "{:.0%}"),
    ("preempted", lambda m: float(m.preemptions), "{:.0f}"),
    ("fairness", lambda m: m.fairness, "{:.3f}"),
)
"""Column, number, how it is written; times in seconds."""


def overload_tables(runs: Sequence[Run]) -> str:
    """For each workload and load: one row a policy, then its classes; means over seeds."""
    parts = []
    for workload, load in _in_order((run.workload, run.load) for run in runs):
        here = [run for run in runs if (run.workload, run.load) == (workload, load)]
        offered = here[0].measure.offered_rate
        parts.append(
            f"#### {workload} at {load:g} of the knee ({offered:.0f} requests in a second)\n\n"
            f"{_whole(here)}\n\n{_by_class(here)}\n"
        )
    return "\n".join(parts)


def _whole(runs: Sequence[Run]) -> str:
    head = ["policy", *(name for name, _, _ in FIRST), "refused"]
    rows = []
    for policy, cell in _cells(runs):
        numbers = [form.format(mean(cell, read).mean) for _, read, form in FIRST]
        rows.append([policy, *numbers, _refused(cell)])
    return _markdown(head, rows)


def _by_class(runs: Sequence[Run]) -> str:
    names = list(runs[0].measure.classes)
    head = ["policy", *(f"priority {name}: served, good, TTFT p90" for name in names)]
    rows = [[policy, *(_class(cell, name) for name in names)] for policy, cell in _cells(runs)]
    return _markdown(head, rows)


def _class(cell: Sequence[Run], name: str) -> str:
    served = mean(cell, lambda m: m.classes[name].served / m.classes[name].requests).mean
    good = mean(cell, lambda m: m.classes[name].goodput).mean
    late = mean(cell, lambda m: m.classes[name].ttft.p90).mean
    return f"{served:.0%}, {good:.0%}, {late:.2f}"


def _refused(cell: Sequence[Run]) -> str:
    reasons = sorted({reason for run in cell for reason in run.measure.refused})
    return ", ".join(f"{reason} {_share_refused(cell, reason):.0%}" for reason in reasons)


def _share_refused(cell: Sequence[Run], reason: str) -> float:
    return mean(cell, lambda m: m.refused.get(reason, 0) / m.requests).mean


def _cells(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    first = runs[0]
    policies = _in_order(run.policy for run in runs)
    return [(policy, chosen(runs, first.workload, policy, first.load)) for policy in policies]


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _in_order(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
