"""Recorded traffic: Mooncake's JSON lines and Azure's tables become jobs.

Times are seconds from the first request of the file. Lengths and block numbers are as recorded;
what was not recorded is not made up: an Azure prompt shares nothing with any other.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec

from epp.domain.workload import LEAST, MOST, USUAL
from epp_lab.job import Job, Segment, chained

TRACES: Final = Path(__file__).parent / "traces"
BLOCK_TOKENS: Final = 512
"""Tokens that one of `hash_ids` stands for."""
FIRST_UNIQUE: Final = 1 << 31
"""Contents from here on are made up for prompts of which nothing is known."""
BINNED: Final = 5
"""So many requests to one time on average cannot be chance."""
MOST_TOKENS: Final = 1 << 22
MOST_LINES: Final = 5_000_000


class Line(msgspec.Struct, frozen=True):
    """One recorded request: Mooncake's fields, and what else may be known of one's own traffic."""

    timestamp: float
    """Milliseconds."""
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] | None = None
    model: str = "lab"
    adapter: bool = False
    tenant: str = ""
    priority: int = 0
    workload: str = ""
    criticality: int = USUAL
    max_tokens: int | None = None
    session: str = ""
    """Requests of one session come one after the other, each `think` after the answer before."""
    think: float = 0.0
    """Milliseconds."""


class Recorded(NamedTuple):
    """A request, and which turn of what it is; `think_s` counts from the answer before."""

    job: Job
    session: str = ""
    think_s: float = 0.0


class BadTrace(ValueError):
    """A trace that cannot be read; the message names file, line and field."""


def find_trace(name: str) -> Path:
    """A file, or one of the recorded traces that come with the lab. Raises BadTrace."""
    for path in (Path(name), TRACES / name):
        if path.is_file():
            return path
    there = ", ".join(sorted(path.name for path in TRACES.glob("*.gz")))
    raise BadTrace(f"no trace file {name!r}; give a path or one of: {there}")


def read_trace(path: Path) -> list[Job]:
    """All requests of a `.jsonl` or `.csv` file, plain or gzip, by time. Raises BadTrace.

    Later turns of a session hang from its first one.
    """
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as stream:
            text = io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8")
            found = list(_recorded(path, text))
    except (OSError, EOFError, zlib.error, csv.Error) as fault:
        raise BadTrace(
            f"{path}: is damaged ({fault}); fetch it again, and name it .gz only if packed"
        ) from fault
    except UnicodeDecodeError as fault:
        raise BadTrace(f"{path}: is no UTF-8 ({fault.reason}); if packed, name it .gz") from fault
    if not found:
        raise BadTrace(f"{path}: holds no request")
    return from_zero(in_sessions(sorted(found, key=lambda each: each.job.arrival)))


def in_sessions(found: Iterable[Recorded]) -> list[Job]:
    """First turns and requests of no session, in the order given."""
    turns: dict[object, list[Job]] = {}
    for number, (job, session, think_s) in enumerate(found):
        said = turns.setdefault(session or number, [])
        said.append(msgspec.structs.replace(job, arrival=think_s) if said else job)
    return [chained(said) if len(said) > 1 else said[0] for said in turns.values()]


def _recorded(path: Path, text: io.TextIOWrapper) -> Iterator[Recorded]:
    kind = path.name.removesuffix(".gz")
    if kind.endswith(".csv"):
        return _azure(path, text)
    if kind.endswith((".jsonl", ".json")):
        return _mooncake(path, text)
    raise BadTrace(f"{path}: name it .jsonl or .csv, plain or with .gz")


def from_zero(jobs: Sequence[Job]) -> list[Job]:
    """The same jobs, the first at 0."""
    first = jobs[0].arrival
    return [msgspec.structs.replace(job, arrival=job.arrival - first) for job in jobs]


def _mooncake(path: Path, text: io.TextIOWrapper) -> Iterator[Recorded]:
    decoder = msgspec.json.Decoder(Line)
    for number, row in enumerate(text):
        if not row.strip():
            continue
        try:
            line = decoder.decode(row)
            yield Recorded(_job(line, number), line.session, max(line.think / 1000, 0.0))
        except (msgspec.DecodeError, ValueError) as fault:
            raise BadTrace(f"{path}:{number + 1}: {fault}") from fault


def _job(line: Line, number: int) -> Job:
    _check(line.input_length, line.output_length, number)
    return Job(
        arrival=line.timestamp / 1000,
        prompt=blocks(line.hash_ids, line.input_length, number),
        output_tokens=max(line.output_length, 1),
        model=line.model,
        adapter=line.adapter,
        tenant=line.tenant,
        priority=line.priority,
        workload=line.workload,
        criticality=min(max(line.criticality, LEAST), MOST),
        client_limit=line.max_tokens,
    )


def blocks(ids: Sequence[int] | None, tokens: int, number: int) -> tuple[Segment, ...]:
    """Segments of a prompt of `tokens`; what no block number covers is its own."""
    rest, segments = max(tokens, 1), []
    for content in ids or ():
        if not 0 <= content < FIRST_UNIQUE:
            raise ValueError(f"hash_ids must be 0..{FIRST_UNIQUE - 1}, not {content}")
        length = min(rest, BLOCK_TOKENS)
        if length:
            segments.append((content, length))
        rest -= length
    if rest:
        segments.append((FIRST_UNIQUE + number % FIRST_UNIQUE, rest))
    return tuple(segments)


def _azure(path: Path, text: io.TextIOWrapper) -> Iterator[Recorded]:
    rows = csv.DictReader(text)
    missing = {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} - set(rows.fieldnames or ())
    if missing:
        raise BadTrace(f"{path}:1: no column {', '.join(sorted(missing))}")
    for number, row in enumerate(rows):
        try:
            prompt, answer = int(row["ContextTokens"]), int(row["GeneratedTokens"])
            _check(prompt, answer, number)
            # Seven digits of a second, one more than Python reads.
            at = datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()
        except (ValueError, TypeError) as fault:
            raise BadTrace(f"{path}:{number + 2}: {fault}") from fault
        job = Job(arrival=at, prompt=blocks(None, prompt, number), output_tokens=max(answer, 1))
        yield Recorded(job)


def _check(prompt: int, answer: int, number: int) -> None:
    if not 0 <= prompt <= MOST_TOKENS or not 0 <= answer <= MOST_TOKENS:
        raise ValueError(f"lengths must be 0..{MOST_TOKENS} tokens")
    if number >= MOST_LINES:
        raise ValueError(f"more than {MOST_LINES} requests")


def binned_s(jobs: Sequence[Job]) -> float:
    """The width in seconds of the bins that timestamps were cut to: the median gap between
    different times where `BINNED` requests share one on average, else 0."""
    at = sorted({job.arrival for job in jobs})
    if len(at) < 2 or len(jobs) < BINNED * len(at):
        return 0.0
    return median(later - earlier for earlier, later in pairwise(at))


def spread_bins(jobs: Sequence[Job], rng: random.Random, seconds: float) -> list[Job]:
    """Timestamps were cut to bins of `seconds`: put each request anywhere in its bin."""
    if not seconds:
        return list(jobs)
    moved = [msgspec.structs.replace(j, arrival=j.arrival + rng.uniform(0, seconds)) for j in jobs]
    return from_zero(sorted(moved, key=lambda job: job.arrival))


def turns_in(jobs: Iterable[Job]) -> int:
    """Requests, those that hang from others too."""
    return sum(job.turns for job in jobs)


def at_rate(jobs: Sequence[Job], rate: float) -> list[Job]:
    """The same jobs, time stretched so that `rate` of them come in a second on average."""
    lasts = jobs[-1].arrival - jobs[0].arrival
    if not lasts:
        return list(jobs)
    factor = turns_in(jobs) / rate / lasts
    return [msgspec.structs.replace(job, arrival=job.arrival * factor) for job in jobs]
