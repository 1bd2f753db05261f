"""The poll loop: each endpoint is asked in its own time, by a task of its own.

One slow endpoint delays nobody. Busy ones are asked every 50 ms and up, idle ones every two
seconds, failing ones ever more seldom. The first request after an idle time asks at once.
"""

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from epp.datastore import Datastore, Sample
from epp.domain.clock import Clock
from epp.domain.endpoint import Endpoint
from epp.scrape.dialects import Dialect, Dialects
from epp.scrape.fetch import Fetch
from epp.scrape.pace import back_off, busy_interval, next_interval
from epp.scrape.settings import ScrapeSettings
from epp.scrape.stats import ScrapeError, ScrapeStats
from epp.scrape.text import PageError

COUNTED: Final = 1.0
"""Seconds between two looks at an endpoint's counters of tokens: a third of what a page costs."""


class Target:
    """What the scraper remembers of one endpoint."""

    __slots__ = (
        "counted_at",
        "dialect",
        "failures",
        "interval",
        "is_busy",
        "key",
        "sleeper",
        "timer",
    )

    def __init__(self, key: str, interval: float) -> None:
        self.key = key
        self.interval = interval
        self.is_busy = False
        self.failures = 0
        self.counted_at = -math.inf
        """When a page was last searched for counters."""
        self.dialect: Dialect | None = None
        self.sleeper: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    async def sleep(self, delay: float) -> None:
        """Wait for `delay` seconds, or until `wake`."""
        self.sleeper = asyncio.get_running_loop().create_future()
        self.wake(delay)
        try:
            await self.sleeper
        finally:
            self.sleeper = None
            if self.timer is not None:
                self.timer.cancel()

    def wake(self, delay: float) -> None:
        """End the sleep, if there is one, in `delay` seconds from now."""
        if self.sleeper is None:
            return
        if self.timer is not None:
            self.timer.cancel()
        loop = self.sleeper.get_loop()
        self.timer = loop.call_later(delay, _finish, self.sleeper)


def _finish(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class Scraper:
    """Keeps the datastore's gauges fresh. `run` owns all tasks; end it by cancelling."""

    def __init__(
        self,
        store: Datastore,
        fetch: Fetch,
        settings: ScrapeSettings,
        clock: Clock,
        random: random.Random,
        dialects: Dialects | None = None,
        log: Any = None,
        further: Callable[[str], Mapping[str, float]] | None = None,
    ) -> None:
        """`further` says what else is known of an endpoint, by its key: custom columns."""
        self._store = store
        self._further = further
        self._fetch = fetch
        self._settings = settings
        self._clock = clock
        self._random = random
        self._dialects = dialects or Dialects()
        self._log = log if log is not None else structlog.get_logger("epp.scrape")
        self._group: asyncio.TaskGroup | None = None
        self._targets: dict[str, Target] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._busy = 0
        self._woken_at = float("-inf")
        self.stats = ScrapeStats()
        store.subscribe(self._changed)
        store.on_wake(self._woken)
        store.on_failure(self._failed_a_request)

    async def run(self) -> None:
        """Scrape until cancelled; may be called again once it has ended."""
        self._targets.clear()
        self._tasks.clear()
        self._busy = 0
        async with asyncio.TaskGroup() as group:
            self._group = group
            for endpoint in self._store.endpoints:
                self._start(endpoint)
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None
                for task in self._tasks.values():
                    task.cancel()

    def _failed_a_request(self, endpoint: Endpoint) -> None:
        """Whether it takes connections at all is worth knowing before the next request."""
        target = self._targets.get(endpoint.key)
        if target is not None and not target.failures:
            target.wake(0.0)

    def poke(self, endpoint: Endpoint | None = None) -> None:
        """Ask `endpoint` at once, all of them shortly if None, instead of at their time.

        Those that are busy or failing keep their time.
        """
        if endpoint is None:
            for one in self._targets.values():
                self._hurry(one, self._random.uniform(0, self._settings.spread))
        elif target := self._targets.get(endpoint.key):
            self._hurry(target, 0.0)

    def _hurry(self, target: Target, delay: float) -> None:
        if target.failures or target.is_busy:
            return
        target.wake(delay)
        self._store.expect(target.key, busy_interval(self._settings, self._busy))

    # -- who is scraped ---------------------------------------------------------------------------

    def _changed(self, added: Sequence[Endpoint], removed: Sequence[Endpoint]) -> None:
        for endpoint in removed:
            self._stop(endpoint)
        if self._group is not None:
            for endpoint in added:
                self._start(endpoint)

    def _start(self, endpoint: Endpoint) -> None:
        assert self._group is not None
        target = Target(endpoint.key, self._settings.busy)
        self._targets[target.key] = target
        self._tasks[target.key] = self._group.create_task(self._watch(target))

    def _stop(self, endpoint: Endpoint) -> None:
        target = self._targets.pop(endpoint.key, None)
        if target is not None:
            self._busy -= target.is_busy
            self._tasks.pop(endpoint.key).cancel()
            self._fetch.forget(endpoint)

    def _woken(self, endpoint: Endpoint) -> None:
        idle_for = self._clock() - self._woken_at
        self._woken_at = self._clock()
        self.poke(None if idle_for > self._settings.idle else endpoint)

    # -- one endpoint -----------------------------------------------------------------------------

    async def _watch(self, target: Target) -> None:
        await target.sleep(self._random.uniform(0, self._settings.spread))
        while (endpoint := self._store.endpoint(target.key)) is not None:
            started = self._clock()
            try:
                await self._scrape(target, endpoint, started)
            except Exception:  # noqa: BLE001 - logged with its traceback
                # Even noting a failure may meet one; the endpoint is asked again all the same.
                self._log.exception("scrape_fault", endpoint=endpoint.address)
            jitter = self._random.uniform(-self._settings.jitter, self._settings.jitter)
            took = self._clock() - started
            await target.sleep(max(0.0, target.interval * (1.0 + jitter) - took))

    async def _scrape(self, target: Target, endpoint: Endpoint, started: float) -> None:
        try:
            async with asyncio.timeout(self._settings.deadline):
                page = await self._fetch(endpoint)
            self._succeeded(target, endpoint, started, self._read(target, endpoint, page, started))
            self.stats.page_bytes += len(page)
        except TimeoutError:
            deadline = self._settings.deadline
            self._failed(target, endpoint, started, "timeout", f"no page within {deadline:g} s")
        except ScrapeError as error:
            self._failed(target, endpoint, started, error.reason, str(error))
        except PageError as error:
            target.dialect = None
            self._failed(target, endpoint, started, "page", str(error))
        except Exception as error:  # noqa: BLE001 - logged with its traceback, and counted
            # A bug met on one page must not end the scraping of all others.
            self._log.exception("scrape_fault", endpoint=endpoint.address)
            self._failed(target, endpoint, started, "fault", f"our own fault: {error!r}")
        self.stats.scrapes += 1
        self.stats.seconds += self._clock() - started

    def _read(self, target: Target, endpoint: Endpoint, page: bytes, started: float) -> Sample:
        if target.dialect is None:
            target.dialect = self._dialects.choose(endpoint.labels, page)
        counted = started - target.counted_at >= COUNTED
        if counted:
            target.counted_at = started
        return target.dialect.sample(page, counted=counted)

    def _succeeded(
        self, target: Target, endpoint: Endpoint, started: float, sample: Sample
    ) -> None:
        if self._store.endpoint(target.key) is None:
            return
        is_busy = bool(sample.waiting or sample.running or self._store.inflight(target.key))
        self._busy += is_busy - target.is_busy
        target.is_busy = is_busy
        target.interval = next_interval(
            self._settings, target.interval, is_busy=is_busy, busy=self._busy
        )
        if self._further is not None:
            custom = {**sample.custom, **self._further(target.key)}
            sample = msgspec.structs.replace(sample, custom=custom)
        promised = target.interval * (1.0 + self._settings.jitter)
        self._store.scraped(target.key, started, sample, promised)
        if target.failures:
            self._log.info("scrape_healed", endpoint=endpoint.address, after=target.failures)
        target.failures = 0

    def _failed(
        self, target: Target, endpoint: Endpoint, started: float, reason: str, why: str
    ) -> None:
        self.stats.errors[reason] += 1
        target.failures += 1
        target.interval = back_off(self._settings, target.failures)
        if target.failures == 1:
            self._log.warning("scrape_broken", endpoint=endpoint.address, reason=reason, why=why)
        self._store.scrape_failed(target.key, started, why, refused=reason == "refused")
