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

from epp_lab.fingerprint import fingerprint
from epp_lab.measure import Measure
from epp_lab.run import Run, run_workload
from epp_lab.workload import Workload

Case: TypeAlias = tuple[Workload, str, float, int]
"""Workload, policy, load, seed."""
Read: TypeAlias = Callable[[Measure], float]

SLACK: Final = 0.03
"""The last session of a workload may go this much over the number of its requests."""
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
    known = {_case(run) for run in fitting(todo, done)}
    return [case for case in todo if (case[0].name, *case[1:]) not in known]


def fitting(todo: Iterable[Case], done: Iterable[Run]) -> list[Run]:
    """Runs of `todo` that are done, made of what its workloads and policies are made of now.

    A run that does not say what it was made of fits if it had as many requests.
    """
    asked: dict[tuple[str, str, float, int], Workload] = {}
    made_of: dict[tuple[str, str], str] = {}
    for workload, policy, load, seed in todo:
        asked[workload.name, policy, load, seed] = workload
        if (workload.name, policy) not in made_of:
            made_of[workload.name, policy] = fingerprint(workload, policy)

    def fits(run: Run) -> bool:
        workload = asked.get(_case(run))
        if workload is None or run.made_of:
            return workload is not None and run.made_of == made_of[run.workload, run.policy]
        return as_many(run, workload)

    return [run for run in done if fits(run)]


def as_many(run: Run, workload: Workload) -> bool:
    """Whether a run measured about as many requests as it would now; sessions may go over."""
    expected = workload.count * (1 - workload.warmup_share)
    return abs(run.measure.requests - expected) <= max(SLACK * expected, 1)


def _case(run: Run) -> tuple[str, str, float, int]:
    return run.workload, run.policy, run.load, run.seed


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
