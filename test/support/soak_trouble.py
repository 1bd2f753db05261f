"""What goes wrong during a soak, in turn: each trouble heals what it broke and says what it saw.

Only a killed model server may cost a request anything; the others must pass unnoticed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import yaml
from support.gateway import gauge
from support.soak_stand import Stand, written
from support.soak_traffic import Disturbances

from epp.config.default import DEFAULT_CONFIG

SEEN_SECONDS = 30.0
"""By when a change must be in force, on a machine that is busy."""
DOWN_SECONDS = 2.0
GRACE_SECONDS = 0.5
"""After a model server is back, until what it cost must be over."""
OTHER_CONFIG = DEFAULT_CONFIG.replace(
    "- type: max-score-picker\n", "- type: max-score-picker\n- type: queue-scorer\n"
).replace("  - pluginRef: max-score", "  - pluginRef: queue-scorer\n  - pluginRef: max-score")
BROKEN_CONFIG = DEFAULT_CONFIG.replace("expected-work-scorer", "expected-work-scorrer")


class Trouble(Exception):
    """A change that did not come into force."""


class Troubles:
    """One after the other, `every` so many seconds, until cancelled."""

    def __init__(self, stand: Stand, disturbances: Disturbances, every: float) -> None:
        self._stand = stand
        self._disturbances = disturbances
        self._every = every
        self.made: Counter[str] = Counter()
        self.failed: list[str] = []
        self._ways: dict[str, Callable[[int], Awaitable[None]]] = {
            "a model server is killed": self.kill,
            "certificates are issued anew": self.reissue,
            "an endpoint leaves the file and comes back": self.rewrite_endpoints,
            "the configuration changes and changes back": self.change_config,
            "the configuration is broken and mended": self.break_config,
        }

    @property
    def refused_configs(self) -> int:
        """How often the picker has had to complain of its configuration."""
        return self.made["the configuration is broken and mended"]

    async def run(self, seconds: float) -> None:
        """Stops making trouble after so many seconds; what has begun is healed first."""
        end = time.monotonic() + seconds
        turn = 0
        while time.monotonic() + self._every < end:
            await asyncio.sleep(self._every)
            for name, way in [list(self._ways.items())[turn % len(self._ways)]]:
                await self._make(name, way, turn // len(self._ways))
            turn += 1

    async def _make(self, name: str, way: Callable[[int], Awaitable[None]], turn: int) -> None:
        try:
            await way(turn)
        except Trouble as error:
            self.failed.append(f"{name}: {error}")
        self.made[name] += 1

    async def kill(self, turn: int) -> None:
        backend = self._stand.backends[turn % len(self._stand.backends)]
        self._disturbances.begin()
        try:
            await backend.kill()
            await asyncio.sleep(DOWN_SECONDS)
            await backend.start()
            await asyncio.sleep(GRACE_SECONDS)
        finally:
            self._disturbances.end()

    async def reissue(self, turn: int) -> None:
        issued = self._stand.certificates.issue()
        if await self._stand.shown_certificate() != issued:
            raise Trouble("a new connection is shown the old certificate")

    async def rewrite_endpoints(self, turn: int) -> None:
        before = self._stand.endpoints.read_text()
        rows = yaml.safe_load(before)["endpoints"]
        fewer = [row for number, row in enumerate(rows) if number != turn % len(rows)]
        written(self._stand.endpoints, yaml.safe_dump({"endpoints": fewer}))
        await self._until(lambda: self._listed(len(fewer)), "one endpoint fewer")
        await asyncio.sleep(DOWN_SECONDS)
        written(self._stand.endpoints, before)
        await self._until(lambda: self._listed(len(rows)), "all endpoints again")

    async def change_config(self, turn: int) -> None:
        for text in (OTHER_CONFIG, DEFAULT_CONFIG):
            await self._configure(text, "applied")
            await asyncio.sleep(DOWN_SECONDS)

    async def break_config(self, turn: int) -> None:
        await self._configure(BROKEN_CONFIG, "refused")
        await self._configure(DEFAULT_CONFIG, "applied")

    async def _configure(self, text: str, outcome: str) -> None:
        before = await self._reloads(outcome)
        written(self._stand.config, text)

        async def counted() -> bool:
            return await self._reloads(outcome) > before

        await self._until(counted, f"a configuration {outcome}")

    async def _reloads(self, outcome: str) -> float:
        page = await self._stand.house.metrics()
        name = f'llm_d_epp_config_reloads_total{{outcome="{outcome}",what="config"}}'
        return sum(float(row.split()[-1]) for row in page.splitlines() if row.startswith(name))

    async def _listed(self, count: int) -> bool:
        return gauge(await self._stand.house.metrics(), "llm_d_epp_ready_endpoints") == count

    async def _until(self, met: Callable[[], Awaitable[bool]], what: str) -> None:
        end = time.monotonic() + SEEN_SECONDS
        while not await met():
            if time.monotonic() > end:
                raise Trouble(f"not within {SEEN_SECONDS:g} s: {what}")
            await asyncio.sleep(0.1)
