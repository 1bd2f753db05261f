"""Further pages: their numbers travel with the engine's, a failing one costs its own alone."""

import asyncio
import contextlib
import random

import pytest
from support.pools import endpoint
from support.stores import until

from epp.datastore import Datastore
from epp.datastore.settings import StoreSettings
from epp.scrape import FurtherPage, FurtherPages, ScrapeError, Scraper, ScrapeSettings, parse_spec

ENGINE = b"vllm:num_requests_waiting 2\nvllm:num_requests_running 3\n"


class Pages:
    """Serves one page; None is a page that is not there."""

    def __init__(self, page):
        self.page = page
        self.forgotten = []

    async def __call__(self, endpoint):
        if self.page is None:
            raise ScrapeError("connect", "nobody there")
        return self.page

    def forget(self, endpoint):
        self.forgotten.append(endpoint.name)


class Quiet:
    def __init__(self):
        self.said = []

    def warning(self, event, **more):
        self.said.append((event, more["source"]))

    info = exception = warning


@contextlib.asynccontextmanager
async def scraping(**pages):
    """A store that is fed by an engine's page and further ones, each with a gauge of its name."""
    loop = asyncio.get_running_loop()
    store = Datastore(loop.time, loop.time, StoreSettings())
    store.set_endpoints("file", [endpoint(0), endpoint(1)])
    log = Quiet()
    further = FurtherPages(
        store,
        [FurtherPage(name, page, {name: parse_spec(name)}, 0.01) for name, page in pages.items()],
        deadline=1.0,
        random=random.Random(1),
        log=log,
    )
    settings = ScrapeSettings(busy=0.01, idle=0.02, spread=0.0)
    scraper = Scraper(
        store, Pages(ENGINE), settings, loop.time, random.Random(1), log=log, further=further.of
    )
    tasks = [loop.create_task(further.run()), loop.create_task(scraper.run())]
    try:
        yield store, log
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def column(store, name):
    found = store.view().get(name)
    return None if found is None else found.tolist()


async def test_numbers_of_all_pages_become_columns_beside_the_gauges():
    heat, watts = Pages(b'heat{gpu="0"} 0.5\nheat{gpu="1"} 0.25\n'), Pages(b"watts 7\n")
    async with scraping(heat=heat, watts=watts) as (store, _):
        await until(lambda: column(store, "heat") == [0.75, 0.75])
        await until(lambda: column(store, "watts") == [7, 7])

        assert column(store, "waiting") == [2, 2]


async def test_requests_counted_on_a_further_page_are_not_believed():
    page = b"vllm:num_requests_waiting 99\nheat 1\n"
    async with scraping(heat=Pages(page)) as (store, _):
        await until(lambda: column(store, "heat") == [1, 1])

        assert column(store, "waiting") == [2, 2]


async def test_a_page_that_fails_loses_its_numbers_is_told_once_and_heals():
    page = Pages(b"heat 1\n")
    async with scraping(heat=page) as (store, log):
        await until(lambda: column(store, "heat") == [1, 1])
        page.page = None
        await until(lambda: column(store, "heat") != [1, 1])
        await asyncio.sleep(0.05)

        assert log.said == [("page_broken", "heat")] * 2
        assert column(store, "waiting") == [2, 2]

        page.page = b"heat 2\n"
        await until(lambda: column(store, "heat") == [2, 2])
        assert log.said[2:] == [("page_healed", "heat")] * 2


async def test_an_endpoint_that_goes_is_asked_no_more():
    page = Pages(b"heat 1\n")
    async with scraping(heat=page) as (store, _):
        await until(lambda: column(store, "heat") == [1, 1])
        store.set_endpoints("file", [endpoint(0)])

        assert page.forgotten == ["pod-1"]
        assert column(store, "heat") == [1]


@pytest.mark.parametrize("page", [b"\xff\x00", b"", b"heat\n"])
async def test_a_page_without_the_gauge_leaves_it_unknown(page):
    async with scraping(heat=Pages(page)) as (store, _):
        await until(lambda: column(store, "waiting") == [2, 2])
        await asyncio.sleep(0.05)

        assert column(store, "heat") is None
