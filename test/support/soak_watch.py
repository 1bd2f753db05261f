"""Looks at a picker while it is soaked: its process from outside, its gauges from its own pages."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from support.gateway import House, gauge
from support.soak_judge import Sample

EVERY_SECONDS = 5.0
FAULTS = ("error", "critical", "exception")


class Watch:
    """Takes a sample every few seconds and tells each to `told`."""

    def __init__(self, house: House, told: Callable[[Sample], None]) -> None:
        self._house = house
        self._told = told
        self.samples: list[Sample] = []
        self.peaks: Counter[str] = Counter()
        """The highest each counter that must be zero at rest was seen at."""

    async def run(self) -> None:
        """Until cancelled."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            sample = await self.sample(time.monotonic() - began)
            self.samples.append(sample)
            self._told(sample)

    async def sample(self, at: float) -> Sample:
        counters = await self._house.counters()
        for name, value in counters.items():
            self.peaks[name] = max(self.peaks[name], int(value))
        page = await self._house.metrics()
        pid = self._house.picker.pid
        return Sample(
            at=at,
            rss_mb=rss_mb(pid),
            cpu_seconds=cpu_seconds(pid),
            files=open_files(pid),
            tasks=await self.tasks(),
            lag_ms=gauge(page, "llm_d_epp_event_loop_lag_seconds") * 1e3,
            open=int(counters["open"]),
            streams=int(counters["streams"]),
            held=int(counters["held"]),
            queued=int(counters["queued"]),
            blocks=int(gauge(page, "llm_d_epp_prefix_indexer_size")),
        )

    async def tasks(self) -> int:
        return len((await self._house.debug("tasks"))["tasks"])

    async def count(self) -> tuple[int, int]:
        """Open files and tasks now."""
        return open_files(self._house.picker.pid), await self.tasks()


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no memory: it has ended")


def cpu_seconds(pid: int) -> float:
    """Of all threads, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def log_lines(text: str) -> tuple[Counter[str], list[str]]:
    """Lines of a picker's log as `level: event`, and those that are no lines of its log at all."""
    seen: Counter[str] = Counter()
    strange = []
    for line in text.splitlines():
        try:
            told = json.loads(line)
            seen[f"{told['level']}: {told['event']}"] += 1
        except (ValueError, KeyError, TypeError):
            strange.append(line)
    return seen, strange
