"""How a figure is come by: stretches of load, the CPU they took, the lowest of them."""

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import report  # noqa: E402
from driver import Replay, Script  # noqa: E402
from load import Result  # noqa: E402
from report import Figure  # noqa: E402
from stand import Stand, Way, cpu_seconds, share_of_core  # noqa: E402

Load = Callable[[], Awaitable[Result]]


@dataclass(frozen=True)
class Cost:
    """CPU microseconds of one request, and how many there were a second, on how much of a core."""

    added: float
    """Above what the server uses while nobody asks."""
    whole: float
    rate: float
    share: float


@dataclass
class Bench:
    """The figures so far, and how long to measure."""

    quick: bool
    only: str
    figures: list[Figure] = field(default_factory=list)

    @property
    def stretch(self) -> float:
        return 0.5 if self.quick else 1.0

    @property
    def stretches(self) -> int:
        return 1 if self.quick else 3

    def note(self, group: str, name: str, value: float, unit: str, **more: object) -> None:
        figure = Figure(group, name, round(value, 4), unit, **more)  # type: ignore[arg-type]
        self.figures.append(figure)
        held = "" if figure.held else f"  OVER {figure.budget:g}"
        print(f"{group}: {name}: {report.number(value)} {unit}{held}  {figure.note}", flush=True)

    def wants(self, what: str) -> bool:
        return re.search(self.only, what) is not None

    async def settle(self, stand: Stand) -> None:
        """Learn what the server does when nobody asks; its endpoints are busy all the same."""
        await asyncio.sleep(0.5)
        stretches = [await share_of_core(stand.pid, 1.0) for _ in range(self.stretches)]
        stand.background = min(stretches)

    async def cost(self, stand: Stand, load: Load, times: int = 1) -> Cost:
        """The lowest of some stretches."""
        (cost,) = await self.in_turns([(stand, load)], times)
        return cost

    async def in_turns(self, pairs: Sequence[tuple[Stand, Load]], times: int = 1) -> list[Cost]:
        """The lowest of some stretches of each, one after the other, so that all had alike times.

        By the whole: on a starved machine scraping slows down too, and what is taken off is more
        than it used.
        """
        found: list[list[Cost]] = [[] for _ in pairs]
        for _ in range(self.stretches * times):
            for costs, (stand, load) in zip(found, pairs, strict=True):
                costs.append(await stretch(stand, load))
        return [min(costs, key=lambda cost: cost.whole) for costs in found]


async def stretch(stand: Stand, load: Load) -> Cost:
    """One stretch of load."""
    cpu, began = cpu_seconds(stand.pid), time.perf_counter()
    result = await load()
    spent, lasted = cpu_seconds(stand.pid) - cpu, time.perf_counter() - began
    assert not result.failed, f"{result.failed} of {result.done} requests failed"
    whole = spent / max(result.done, 1) * 1e6
    idle = stand.background * lasted / max(result.done, 1) * 1e6
    return Cost(whole - idle, whole, result.done / lasted, spent / lasted)


async def replayed(
    bench: Bench,
    stand: Stand,
    way: Way,
    group: str,
    script: Script,
    at_once: int,
    held: dict[str, float | None],
) -> None:
    """Streams replayed without Envoy, as fast as the server takes them."""
    lane = await asyncio.to_thread(Replay, stand.port, script, secure=way.tls, at_once=at_once)
    try:
        await asyncio.to_thread(lane.run, bench.stretch)
        cost = await bench.cost(
            stand, lambda: asyncio.to_thread(lane.run, bench.stretch / 2), times=2
        )
    finally:
        lane.close()
    told = f"{cost.rate:,.0f} a second on {cost.share:.0%} of a core"
    bench.note(group, str(way), cost.added, "us", note=told, **held)


def beside_scraping(cost: Cost) -> str:
    return f"{cost.whole:,.0f} with scraping three busy endpoints"
