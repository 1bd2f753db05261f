"""Figures, the budgets they are held against, and how they are shown."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BEGIN = "<!-- costs: written by make bench -->"
END = "<!-- end of costs -->"
INTRODUCTION = """\
## What a request costs

CPU of the picker's process, user and system together, read from `/proc`, behind real Envoy on one
machine that is shared with Envoy, the client and the model servers; so CPU is what counts here, not
throughput. What a request costs is what it adds to a picker that scrapes three busy endpoints; with
the scraping is in the note. Each figure is the lowest of several stretches, for neighbours only
add; `bare` is the wire alone with a constant answer. `python test/bench/run.py --write PAGE` writes
this section.

*Everything on* is the same work with exact knowledge and flow control, measured in turns with the
default configuration, so that their ratio holds on a machine that others use:

```yaml
featureGates: [flowControl]
plugins:
- type: precise-prefix-cache-producer
- type: expected-work-scorer
```

Every engine publishes KV events over ZMQ. All of them together publish 300 batches a second, as 300
requests a second would make them (ten blocks stored and ten removed by each), or 2,000 where it
says so. Endpoints have room, so nobody waits. Tokens come with the request (*in token ids*), from
an engine that has rendered the same text before (`token-producer: {vllm: {url: pool}}`), from one
that is asked for each text (*rendered anew*: an HTTP request and a wait each), or from nobody
(*tokens unknown*), and then only the picker's own picks match.
"""


@dataclass(frozen=True)
class Figure:
    """One number. `budget` is the most it may be, `aim` what is hoped for."""

    group: str
    name: str
    value: float
    unit: str
    budget: float | None = None
    aim: float | None = None
    note: str = ""

    @property
    def ratio(self) -> str:
        return "" if self.budget is None else f"{self.value / self.budget:.2f}"

    @property
    def held(self) -> bool:
        return self.budget is None or self.value <= self.budget


@dataclass(frozen=True)
class Report:
    """All figures of one run, and what they were measured on."""

    facts: dict[str, Any]
    figures: Sequence[Figure]

    def json(self) -> str:
        told = {"facts": self.facts, "figures": [asdict(f) for f in self.figures]}
        return json.dumps(told, indent=1) + "\n"


def read(path: Path) -> Report:
    told = json.loads(path.read_text())
    return Report(told["facts"], [Figure(**each) for each in told["figures"]])


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rows(report: Report, beside: Report | None) -> Iterable[tuple[str, list[str]]]:
    """The group of each figure, and its cells."""
    others = {(f.group, f.name): f for f in beside.figures} if beside else {}
    for figure in report.figures:
        budget = "" if figure.budget is None else number(figure.budget)
        if figure.aim is not None:
            budget += f" (aim {number(figure.aim)})"
        cells = [figure.name, figure.unit, budget, number(figure.value), figure.ratio]
        if beside:
            other = others.get((figure.group, figure.name))
            cells += [number(other.value), other.ratio] if other else ["", ""]
        yield figure.group, [*cells, figure.note]


def heads(beside: Report | None) -> list[str]:
    more = ["beside", "ratio"] if beside else []
    return ["work", "unit", "budget", "measured", "ratio", *more, "note"]


def text(report: Report, beside: Report | None = None) -> str:
    """The table for a terminal."""
    table = [heads(beside)]
    groups = []
    for group, cells in rows(report, beside):
        groups.append(group)
        table.append(cells)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines, last = [_line(table[0], widths)], ""
    for group, cells in zip(groups, table[1:], strict=True):
        if group != last:
            lines += ["", group]
            last = group
        lines.append(_line(cells, widths))
    return "\n".join([facts_text(report, beside), "", *lines])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, unit, *rest, note = zip(cells, widths, strict=True)
    middle = [f"{cell:>{width}}" for cell, width in rest]
    shown = [f"  {first[0]:{first[1]}}", f"{unit[0]:{unit[1]}}", *middle, note[0]]
    return "  ".join(shown).rstrip()


def facts_text(report: Report, beside: Report | None) -> str:
    lines = [f"{name}: {value}" for name, value in report.facts.items()]
    if beside:
        lines.append(f"beside: {beside.facts['python']}, {beside.facts['when']}")
    return "\n".join(lines)


def markdown(report: Report, beside: Report | None = None) -> str:
    """The section of the page, between its marks."""
    lines = [BEGIN, INTRODUCTION]
    lines += [f"* {line}" for line in facts_text(report, beside).splitlines()]
    last = ""
    for group, cells in rows(report, beside):
        if group != last:
            lines += ["", f"### {group}", "", "| " + " | ".join(heads(beside)) + " |"]
            lines.append("|---|---|" + "---:|" * (len(cells) - 3) + "---|")
            last = group
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, END])


def write(path: Path, section: str) -> None:
    """Put the section where its marks are, else at the end of the page."""
    page = path.read_text() if path.exists() else "# Benchmarks\n"
    if BEGIN in page and END in page:
        before, _, rest = page.partition(BEGIN)
        page = before + section + rest.partition(END)[2]
    else:
        page = page.rstrip("\n") + "\n\n" + section + "\n"
    path.write_text(page)
