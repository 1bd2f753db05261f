"""Several policies over the same runs: means over seeds, and differences seed by seed.

Every policy gets the very same requests of each seed, so that what differs is the policy's doing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Final, TypeAlias

import msgspec

from epp_lab.measure import Measure
from epp_lab.run import Run, run_workload
from epp_lab.workload import Workload

Case: TypeAlias = tuple[Workload, str, float, int]
"""Workload, policy, load, seed."""
Read: TypeAlias = Callable[[Measure], float]

STUDENT: Final = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t for 1..9 degrees of freedom; 1.96 is used beyond."""


class Spread(msgspec.Struct, frozen=True):
    """A mean over seeds and half the width of its 95 % interval, 0 for one seed."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}"


def cases(
    workloads: Iterable[Workload], policies: Sequence[str], seeds: int, loads: Sequence[float] = ()
) -> list[Case]:
    """Every run there is to do, seed by seed; without `loads` those of each workload.

    So what is done of an unfinished list is a whole table over fewer seeds.
    """
    found = list(workloads)
    return [
        case
        for seed in range(seeds)
        for workload in found
        for case in product([workload], policies, loads or workload.loads, [seed])
    ]


def run_all(todo: Sequence[Case], processes: int = 1) -> Iterator[Run]:
    """Runs in the order of `todo`; more processes change how long it takes and nothing else."""
    if processes == 1:
        yield from (run_workload(*case) for case in todo)
        return
    with ProcessPoolExecutor(min(processes, os.cpu_count() or 1)) as pool:
        yield from pool.map(_run, todo)


def _run(case: Case) -> Run:
    return run_workload(*case)


def kept(path: Path) -> list[Run]:
    """Runs that a file of JSON lines holds; none if there is no file."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Run) for line in lines if line]


def missing(todo: Sequence[Case], done: Iterable[Run]) -> list[Case]:
    """What of `todo` is not among the runs that are done."""
    known = {(run.workload, run.policy, run.load, run.seed) for run in done}
    return [case for case in todo if (case[0].name, *case[1:]) not in known]


def chosen(runs: Iterable[Run], workload: str, policy: str, load: float) -> list[Run]:
    """The runs of one cell, by seed."""
    found = [r for r in runs if (r.workload, r.policy, r.load) == (workload, policy, load)]
    return sorted(found, key=lambda run: run.seed)


def mean(runs: Sequence[Run], read: Read) -> Spread:
    """The mean of a number over runs."""
    return spread([read(run.measure) for run in runs])


def difference(runs: Sequence[Run], others: Sequence[Run], read: Read) -> Spread:
    """By how much `runs` differ from `others`, seed by seed. Raises ValueError if seeds differ."""
    if [run.seed for run in runs] != [other.seed for other in others]:
        raise ValueError("runs with unlike seeds cannot be paired")
    pairs = zip(runs, others, strict=True)
    return spread([read(run.measure) - read(other.measure) for run, other in pairs])


def spread(values: Sequence[float]) -> Spread:
    """Mean and half of the 95 % interval."""
    if len(values) < 2:
        return Spread(fmean(values), 0.0)
    freedom = len(values) - 1
    quantile = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96
    return Spread(fmean(values), quantile * stdev(values) / len(values) ** 0.5)
