"""Further pages of each endpoint, such as those of its GPUs: custom gauges beside the engine's own.

They are asked at an interval of their own and never delay the engine's page, which carries their
latest numbers into the datastore. A page that fails costs its numbers, nothing else.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from epp.datastore import Datastore
from epp.domain.endpoint import Endpoint
from epp.scrape.dialects import customs
from epp.scrape.fetch import Fetch
from epp.scrape.spec import MetricSpec
from epp.scrape.stats import ScrapeError
from epp.scrape.text import PageError


@dataclass(slots=True, frozen=True)
class FurtherPage:
    """One page of every endpoint."""

    name: str
    """Of the source, for the log."""
    fetch: Fetch
    custom: Mapping[str, MetricSpec]
    """Column to the family it is read from."""
    interval: float
    """Seconds between two looks."""


class FurtherPages:
    """The latest numbers of all further pages. `run` owns all tasks; end it by cancelling."""

    def __init__(
        self,
        store: Datastore,
        pages: Sequence[FurtherPage],
        deadline: float,
        random: random.Random,
        log: Any = None,
    ) -> None:
        self._store = store
        self._pages = tuple(pages)
        self._deadline = deadline
        self._random = random
        self._log = log if log is not None else structlog.get_logger("epp.scrape")
        self._latest: dict[str, dict[str, Mapping[str, float]]] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._group: asyncio.TaskGroup | None = None
        store.subscribe(self._changed)

    def of(self, key: str) -> Mapping[str, float]:
        """What the pages of an endpoint said last; nothing of one that failed."""
        found: dict[str, float] = {}
        for numbers in self._latest.get(key, {}).values():
            found.update(numbers)
        return found

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._changed(self._store.endpoints, ())
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None
                self._changed((), [e for e in self._store.endpoints if e.key in self._tasks])

    def _changed(self, added: Sequence[Endpoint], removed: Sequence[Endpoint]) -> None:
        for endpoint in removed:
            self._latest.pop(endpoint.key, None)
            for task in self._tasks.pop(endpoint.key, ()):
                task.cancel()
            for page in self._pages:
                page.fetch.forget(endpoint)
        for endpoint in added if self._group else ():
            assert self._group is not None
            self._latest[endpoint.key] = {}
            self._tasks[endpoint.key] = [
                self._group.create_task(self._watch(endpoint.key, page)) for page in self._pages
            ]

    async def _watch(self, key: str, page: FurtherPage) -> None:
        await asyncio.sleep(self._random.uniform(0, page.interval / 10))
        trouble = ""
        while (endpoint := self._store.endpoint(key)) is not None:
            before, trouble = trouble, await self._look(endpoint, page)
            if trouble and not before:
                self._log.warning(
                    "page_broken", endpoint=endpoint.address, source=page.name, why=trouble
                )
            elif before and not trouble:
                self._log.info("page_healed", endpoint=endpoint.address, source=page.name)
            await asyncio.sleep(page.interval)

    async def _look(self, endpoint: Endpoint, page: FurtherPage) -> str:
        """Take one page's numbers. Returns what went wrong, empty for nothing."""
        latest = self._latest[endpoint.key]
        try:
            async with asyncio.timeout(self._deadline):
                text = await page.fetch(endpoint)
            latest[page.name] = customs(page.custom, text)
        except TimeoutError:
            return self._lost(latest, page, f"no page within {self._deadline:g} s")
        except (ScrapeError, PageError) as error:
            return self._lost(latest, page, str(error))
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            # A bug met on one page must not end all others.
            self._log.exception("scrape_fault", endpoint=endpoint.address)
            return self._lost(latest, page, f"our own fault: {error!r}")
        return ""

    @staticmethod
    def _lost(latest: dict[str, Mapping[str, float]], page: FurtherPage, why: str) -> str:
        latest.pop(page.name, None)
        return why
