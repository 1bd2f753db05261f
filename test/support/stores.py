"""A datastore under a clock that tests turn by hand."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from epp.datastore import Datastore, Sample, StoreSettings
from epp.domain.endpoint import Endpoint

WALL_START = 1_700_000_000.0
ALWAYS = 1e9
"""A scrape interval that never makes anything stale."""


class HandClock:
    """Monotonic seconds that pass only when told to; `wall` goes along with it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL_START + self.now

    def tick(self, seconds: float) -> None:
        self.now += seconds


class Log:
    """Keeps what is logged: `(level, event, fields)`."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, Mapping[str, Any]]] = []

    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]

    def __getattr__(self, level: str) -> Any:
        return lambda event, **fields: self.lines.append((level, event, fields))


def pod(number: int, **fields: Any) -> Endpoint:
    """`pod-3` at 10.0.0.4:8000."""
    known: dict[str, Any] = {"name": f"pod-{number}", "host": f"10.0.0.{number + 1}", "port": 8000}
    return Endpoint(**{**known, **fields})


def pods(count: int) -> list[Endpoint]:
    return [pod(number) for number in range(count)]


def store_of(
    *endpoints: Endpoint, clock: HandClock | None = None, log: Log | None = None, **settings: Any
) -> Datastore:
    """A store that knows `endpoints`; nothing is scraped yet."""
    clock = clock or HandClock()
    store = Datastore(clock, clock.wall, StoreSettings(**settings), log or Log())
    if endpoints:
        store.set_endpoints("test", endpoints)
    return store


def scrape(store: Datastore, endpoint: Endpoint, started: float, **gauges: Any) -> None:
    """A scrape that stays believed."""
    store.scraped(endpoint.key, started, Sample(**gauges), ALWAYS)


async def until(met: Callable[[], bool], seconds: float = 5.0) -> None:
    """Let the loop run until `met()`; TimeoutError if that takes longer than `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            if met():
                return
            await asyncio.sleep(0.002)
