"""The poll loop over a far side that answers as told; intervals are shortened, not patched."""

import asyncio
import contextlib
import random

import pytest
from support.stores import Log, pod, pods, until

from epp.datastore import Datastore, Sample, StoreSettings
from epp.domain.response import Ending
from epp.scrape import ScrapeError, Scraper, ScrapeSettings
from epp.scrape.dialects import Dialects

QUICK = ScrapeSettings(busy=0.01, idle=0.04, deadline=0.05, failing=0.04, spread=0.002)
PAGE = b"vllm:num_requests_waiting %d\nvllm:num_requests_running 0\n"


class FarSide:
    """Answers each endpoint by name with what `answers` holds: a page, an error, a delay."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.forgotten = []

    async def __call__(self, endpoint):
        self.asked.append(endpoint.name)
        answer = self.answers.get(endpoint.name, PAGE % 0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return PAGE % 0
        return answer

    def forget(self, endpoint):
        self.forgotten.append(endpoint.name)

    def times(self, name):
        return self.asked.count(name)


class Bench:
    """A store, a far side and a scraper between them."""

    def __init__(self, count, settings=QUICK, dialects=None):
        self.clock = asyncio.get_running_loop().time
        self.log = Log()
        self.far = FarSide()
        self.store = Datastore(self.clock, self.clock, StoreSettings(), self.log)
        self.store.set_endpoints("test", pods(count))
        self.scraper = Scraper(
            self.store,
            self.far,
            settings,
            self.clock,
            random.Random(1),
            dialects=dialects,
            log=self.log,
        )

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.scraper.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_scrapes_every_endpoint():
    async with Bench(5).running() as bench:
        await until(lambda: bench.store.view().fresh.all())

    assert set(bench.far.asked) == {f"pod-{number}" for number in range(5)}


async def test_asks_again_and_again():
    async with Bench(1).running() as bench:
        await until(lambda: bench.far.times("pod-0") >= 4)

    assert bench.scraper.stats.scrapes >= 3
    assert bench.scraper.stats.page_bytes >= 3 * len(PAGE % 0)


async def test_a_hanging_endpoint_delays_no_other():
    bench = Bench(2)
    bench.far.answers["pod-0"] = 3600.0
    async with bench.running():
        await until(lambda: bench.far.times("pod-1") >= 5)
        await until(lambda: bench.scraper.stats.errors["timeout"] >= 1)

    assert bench.store.view().fresh.tolist() == [False, True]


async def test_a_busy_endpoint_is_asked_more_often_than_an_idle_one():
    bench = Bench(2)
    bench.far.answers["pod-0"] = PAGE % 3
    async with bench.running():
        await until(lambda: bench.far.times("pod-0") >= 30)

    assert bench.far.times("pod-1") < 20


class Listening(Dialects):
    """Notes of each page whether its counters were asked for."""

    def __init__(self):
        super().__init__()
        self.counted = []

    def choose(self, labels, page):
        return self

    def sample(self, page, *, counted):
        self.counted.append(counted)
        return Sample(running=1.0)


async def test_counters_are_looked_at_once_a_second_however_often_it_is_asked():
    listening = Listening()
    bench = Bench(1, dialects=listening)
    async with bench.running():
        began = bench.clock()
        await until(lambda: len(listening.counted) >= 20)
        seconds = bench.clock() - began

    assert listening.counted[0]
    assert sum(listening.counted) <= 1 + seconds


async def test_endpoints_that_come_later_are_asked_too():
    async with Bench(1).running() as bench:
        await until(lambda: bench.far.times("pod-0"))
        bench.store.set_endpoints("test", pods(2))
        await until(lambda: bench.far.times("pod-1"))


async def test_endpoints_that_go_are_asked_no_more():
    async with Bench(2).running() as bench:
        await until(lambda: bench.far.times("pod-1"))
        bench.store.set_endpoints("test", pods(1))
        before = bench.far.times("pod-1")
        await until(lambda: bench.far.times("pod-0") > 6)

    assert bench.far.times("pod-1") == before
    assert bench.far.forgotten == ["pod-1"]


async def test_an_endpoint_that_returns_elsewhere_is_asked_anew():
    async with Bench(1).running() as bench:
        await until(lambda: bench.store.view().fresh.all())
        bench.store.set_endpoints("test", [pod(0, host="10.9.9.9")])
        assert not bench.store.view().fresh.any()
        await until(lambda: bench.store.view().fresh.all())


async def test_the_first_request_after_an_idle_time_asks_at_once():
    sleepy = ScrapeSettings(busy=30.0, idle=60.0, spread=0.0)
    async with Bench(2, sleepy).running() as bench:
        await until(lambda: len(bench.far.asked) == 2)
        reservation = bench.store.reserve(pod(0), tokens=1, request_id="a")
        await until(lambda: bench.far.times("pod-0") == 2)
        await until(lambda: bench.far.times("pod-1") == 2)
        reservation.release(Ending.COMPLETE)


async def test_a_poke_asks_one_endpoint_at_once():
    sleepy = ScrapeSettings(busy=30.0, idle=60.0, spread=0.0)
    async with Bench(2, sleepy).running() as bench:
        await until(lambda: len(bench.far.asked) == 2)
        bench.scraper.poke(pod(1))
        await until(lambda: bench.far.times("pod-1") == 2)

    assert bench.far.times("pod-0") == 1


async def test_one_line_when_a_scrape_breaks_and_one_when_it_heals():
    bench = Bench(1)
    bench.far.answers["pod-0"] = ScrapeError("status", "status 500 where 200 is expected")
    async with bench.running():
        await until(lambda: bench.scraper.stats.errors["status"] >= 3)
        bench.far.answers["pod-0"] = PAGE % 0
        await until(lambda: bench.store.view().fresh.all())
        await until(lambda: bench.far.times("pod-0") >= 6)

    assert bench.log.events() == ["scrape_broken", "scrape_healed"]


@pytest.mark.parametrize(
    ("page", "reason"),
    [(b"go_goroutines 7\n", "page"), (b"vllm:num_requests_waiting x\n", "page"), (b"", "page")],
)
async def test_a_page_that_cannot_be_read_is_a_failure(page, reason):
    bench = Bench(1)
    bench.far.answers["pod-0"] = page
    async with bench.running():
        await until(lambda: bench.scraper.stats.errors[reason])

    assert bench.store.describe()[0]["scrape_error"]


async def test_our_own_fault_on_one_page_leaves_the_others_alone():
    bench = Bench(2)
    bench.far.answers["pod-0"] = KeyError("a bug")
    async with bench.running():
        await until(lambda: bench.scraper.stats.errors["fault"] >= 2)
        await until(lambda: bench.far.times("pod-1") >= 5)

    assert bench.log.events().count("scrape_broken") == 1


async def test_a_fault_after_the_page_was_read_does_not_end_the_scraping():
    bench = Bench(2)
    faults = iter([KeyError("a bug"), KeyError("one more")])

    def hear():
        if fault := next(faults, None):
            raise fault

    bench.store.on_room(hear)
    async with bench.running():
        await until(lambda: bench.far.times("pod-0") >= 4 and bench.far.times("pod-1") >= 4)
        await until(lambda: bench.store.view().fresh.all())

    assert "scrape_fault" in bench.log.events()


async def test_another_engine_at_the_same_address_is_recognised():
    bench = Bench(1)
    async with bench.running():
        await until(lambda: bench.store.view().fresh.all())
        bench.far.answers["pod-0"] = b"sglang:num_queue_reqs 7\n"
        await until(lambda: bench.store.view().waiting[0] == 7)


async def test_ends_with_its_owner():
    bench = Bench(3)
    async with bench.running():
        await until(lambda: len(bench.far.asked) >= 3)
    before = len(bench.far.asked)
    await asyncio.sleep(0.1)

    assert len(bench.far.asked) == before
