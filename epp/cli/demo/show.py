"""What the demo shows: a live table, the last picks with their reasons, a summary."""

import statistics
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from epp.cli.demo.client import Seen
from epp.cli.demo.stack import Addresses

LAST_PICKS = 6


@dataclass(slots=True)
class Tally:
    """What one phase of the demo has seen so far."""

    name: str
    picks: Counter[str] = field(default_factory=Counter)
    failures: Counter[int] = field(default_factory=Counter)
    """By status; 0 is a connection that broke."""
    ttfts: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    last: deque[Seen] = field(default_factory=lambda: deque(maxlen=LAST_PICKS))

    def note(self, seen: Seen) -> None:
        if seen.status != 200:
            self.failures[seen.status] += 1
            return
        self.picks[seen.pod] += 1
        self.last.append(seen)
        self.prompt_tokens += seen.prompt_tokens
        self.cached_tokens += seen.cached_tokens
        if seen.shot.streamed:
            self.ttfts.append(seen.ttft)

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def summary(self) -> dict[str, Any]:
        """Figures of the phase: seconds for times, 0..1 for the hit rate."""
        ranked = sorted(self.ttfts)
        return {
            "requests": sum(self.picks.values()) + self.failed,
            "failed": self.failed,
            "failures": {str(status): count for status, count in self.failures.items()},
            "picks": dict(sorted(self.picks.items())),
            "ttft_p50": round(statistics.median(ranked), 3) if ranked else None,
            "ttft_p90": round(ranked[int(len(ranked) * 0.9)], 3) if ranked else None,
            "hit_rate": round(self.cached_tokens / max(self.prompt_tokens, 1), 3),
        }


@dataclass(slots=True, frozen=True)
class Gauge:
    """One simulator as it is now."""

    pod: str
    running: int
    waiting: int
    kv_usage: float
    hit_rate: float


async def gauges(addresses: Addresses) -> list[Gauge]:
    """Ask every simulator for its state."""
    found = []
    async with aiohttp.ClientSession() as session:
        for url in addresses.simulators:
            async with session.get(f"{url}/sim/state") as response:
                found.append(gauge_of(await response.json()))
    return found


def picture(tally: Tally, now: Sequence[Gauge]) -> Group:
    """The live view: a row for each endpoint, then the last picks."""
    table = Table(title=tally.name, title_justify="left", expand=False)
    for column in ("endpoint", "running", "waiting", "KV", "hit rate", "picks"):
        table.add_column(column, justify="left" if column == "endpoint" else "right")
    for gauge in now:
        table.add_row(
            gauge.pod,
            str(gauge.running),
            str(gauge.waiting),
            f"{gauge.kv_usage:.0%}",
            f"{gauge.hit_rate:.0%}",
            str(tally.picks[gauge.pod]),
        )
    return Group(table, *(Text(pick_line(seen), style="dim") for seen in tally.last))


def pick_line(seen: Seen) -> str:
    """One pick in words: what it was, where it went, why."""
    cached = f", {seen.cached_tokens} of {seen.prompt_tokens} tokens cached"
    why = f" ({seen.reason})" if seen.reason else ""
    return (
        f"  {seen.shot.path} of tenant {seen.shot.tenant} -> {seen.pod}{why}"
        f"{cached if seen.prompt_tokens else ''}"
    )


def print_summary(console: Console, phases: Sequence[Tally]) -> None:
    """Phases side by side."""
    table = Table(title="The same traffic", title_justify="left")
    for column in ("", "requests", "failed", "TTFT p50", "TTFT p90", "hit rate", "picks"):
        table.add_column(column)
    for phase in phases:
        told = phase.summary
        table.add_row(
            phase.name,
            str(told["requests"]),
            str(told["failed"]),
            f"{told['ttft_p50']} s",
            f"{told['ttft_p90']} s",
            f"{told['hit_rate']:.0%}",
            " ".join(f"{pod}:{count}" for pod, count in told["picks"].items()),
        )
    console.print(table)


def gauge_of(state: dict[str, Any]) -> Gauge:
    """A simulator's own word of itself."""
    queries = state["prefix_queries"]
    return Gauge(
        pod=state["pod"],
        running=state["running"],
        waiting=state["waiting"],
        kv_usage=state["kv_usage"],
        hit_rate=state["prefix_hits"] / queries if queries else 0.0,
    )
