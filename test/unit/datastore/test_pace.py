"""The slowness of an endpoint: what its work takes over what it takes elsewhere."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores import HandClock, pods, scrape, store_of

from epp.datastore.pace import BOUND, DOUBT, ENOUGH, Pace, PoolPace, Window, beyond_doubt
from epp.datastore.sample import Sample

STEP = 0.01
"""Seconds of one step for any batch, on an endpoint of the usual speed."""
PROMPT = 1e-4
"""Seconds of one prompt token."""


def page(generated=0.0, prefilled=0.0, running=10.0, **fields):
    return Sample(running=running, generated_tokens=generated, prefilled_tokens=prefilled, **fields)


class Engine:
    """Counters of an engine that takes `slow` times as long as the usual for its work."""

    def __init__(self, slow, seed):
        self.slow = slow
        self._running = 10.0
        self._random = random.Random(seed)
        self._counted = [0.0, 0.0]

    def worked(self, seconds):
        """Its page after so many seconds more, a random part of them spent on prompts."""
        before, running = self._running, self._random.uniform(5.0, 20.0)
        busy, self._running = seconds / self.slow, running
        reading = busy * self._random.random() / 2
        self._counted[0] += (busy - reading) / STEP * (before + running) / 2
        self._counted[1] += reading / PROMPT
        return page(*self._counted, running=running)


class Lab:
    """A pool of engines that are asked every second; each keeps its batch between two pages."""

    def __init__(self, *slow):
        self.engines = [Engine(each, number) for number, each in enumerate(slow)]
        self.pods = pods(len(slow))
        self.clock = HandClock()
        self.store = store_of(*self.pods, clock=self.clock)

    def works(self, seconds):
        for _ in range(seconds):
            self.clock.tick(1.0)
            for each, engine in zip(self.pods, self.engines, strict=True):
                worked = engine.worked(1.0)
                self._scraped(each, worked)

    def rests(self, seconds):
        for _ in range(seconds):
            self.clock.tick(1.0)
            for each in self.pods:
                scrape(self.store, each, self.clock.now)

    def _scraped(self, each, sample):
        self.store.scraped(each.key, self.clock.now, sample, 1e9)

    @property
    def slowness(self):
        return self.store.view()["slowness"].tolist()


def test_among_equals_nobody_is_slow():
    lab = Lab(1.0, 1.0, 1.0, 1.0)
    lab.works(60)

    assert lab.slowness == [1, 1, 1, 1]


def test_one_of_four_that_takes_twice_as_long_is_found():
    lab = Lab(1.0, 1.0, 1.0, 2.0)
    lab.works(60)
    *usual, slow = lab.slowness

    assert min(usual) > 0.9
    assert 1.4 < slow <= 2.0


def test_one_of_four_that_is_twice_as_fast_is_found():
    lab = Lab(1.0, 1.0, 1.0, 0.5)
    lab.works(60)
    *usual, fast = lab.slowness

    assert max(usual) < 1.1
    assert 0.5 <= fast < 0.7


def test_one_that_becomes_slow_is_found_within_twenty_seconds():
    lab = Lab(1.0, 1.0, 1.0, 1.0)
    lab.works(60)
    lab.engines[3].slow = 2.0
    lab.works(20)

    assert lab.slowness[3] > 1.3


def test_one_that_has_recovered_is_forgiven():
    lab = Lab(1.0, 1.0, 1.0, 2.0)
    lab.works(60)
    lab.engines[3].slow = 1.0
    lab.works(40)

    assert lab.slowness[3] == pytest.approx(1.0, abs=0.1)


def test_without_work_it_is_forgotten():
    lab = Lab(1.0, 1.0, 1.0, 2.0)
    lab.works(60)
    before = lab.slowness[3]
    lab.rests(300)

    assert 1.0 <= lab.slowness[3] < 1.1 < before


def test_nobody_is_judged_before_the_pool_has_shown_enough():
    lab = Lab(1.0, 4.0)
    lab.works(ENOUGH // 2)

    assert lab.slowness == [1, 1]


def test_an_engine_that_counts_nothing_is_as_fast_as_any():
    store = store_of(*pods(1))
    for at in range(1000, 1100):
        scrape(store, pods(1)[0], float(at), running=5.0)

    assert store.view()["slowness"].tolist() == [1]


def test_the_work_of_a_window():
    window = Window(page(running=4.0, kv_usage=0.1, kv_blocks=100, block_size=10), 0.0)
    window.extend(page(600.0, 5000.0, running=8.0, kv_usage=0.3, kv_blocks=100, block_size=10), 2.0)

    steps, held = 600 / 6, 200  # Six requests and 200 tokens of memory on the average.
    assert window.work() == pytest.approx([steps / 1e2, 0.5, 0.6, steps * held / 1e7])


@pytest.mark.parametrize(
    ("generated", "at", "whole"),
    [(600.0, 1.0, True), (600.0, 0.9, False), (0.0, 1.0, False)],
    ids=["a-second-of-answers", "less", "only-prompts"],
)
def test_a_window_lasts_a_second_and_writes_something(generated, at, whole):
    window = Window(page(), 0.0)
    window.extend(page(generated), at)

    assert window.is_whole is whole


@pytest.mark.parametrize(
    ("sample", "at"),
    [
        pytest.param(page(3.0), 1.0, id="restarted"),
        pytest.param(page(5.0), 31.0, id="silent-for-too-long"),
    ],
)
def test_a_window_that_tells_nothing(sample, at):
    window = Window(page(5.0), 0.0)
    window.extend(sample, at)

    assert not window.holds


def test_gauges_between_two_looks_at_the_counters_are_weighed_too():
    window = Window(page(running=4.0), 0.0)
    window.extend(page(math.nan, math.nan, running=8.0), 1.0)
    window.extend(page(600.0, 0.0, running=8.0), 2.0)

    assert window.work()[0] == pytest.approx(600 / 7 / 1e2)


@pytest.mark.parametrize(
    "uncounted",
    [page(math.nan), page(0.0, math.nan)],
    ids=["no-answers-counted", "no-prompts-counted"],
)
def test_a_window_begins_and_ends_with_a_look_at_the_counters(uncounted):
    window = Window(page(), 0.0)
    window.extend(uncounted, 1.5)

    assert not window.is_whole


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [
        pytest.param(1.0, 1.0, id="equal"),
        pytest.param(DOUBT, 1.0, id="within-doubt"),
        pytest.param(1 / DOUBT, 1.0, id="faster-within-doubt"),
        pytest.param(DOUBT**1.5, DOUBT**0.75, id="half-believed"),
        pytest.param(1 / DOUBT**1.5, 1 / DOUBT**0.75, id="faster-half-believed"),
        pytest.param(2.0, 2.0, id="beyond"),
        pytest.param(0.5, 0.5, id="faster-beyond"),
    ],
)
def test_small_differences_are_taken_for_chance(ratio, shown):
    assert beyond_doubt(ratio, DOUBT) == pytest.approx(shown)


def test_the_lines_own_error_is_taken_for_chance_too():
    pool = PoolPace()
    for _ in range(200):
        pool.judged(seconds=1.3, believed=1.0, ratio=1.0)

    assert pool.doubt == pytest.approx(1.3**2, rel=0.3)
    assert beyond_doubt(1.3, pool.doubt) == 1.0


def test_what_all_have_in_common_makes_nobody_slow():
    lab = Lab(1.0, 1.0, 1.0, 1.0)
    lab.works(60)
    for engine in lab.engines:
        engine.slow = 1.5
    lab.works(60)

    assert lab.slowness == [1, 1, 1, 1]


ticks = st.sampled_from([0.0, 0.5, 1.0, 40.0])
counted = st.sampled_from([0.0, 1.0, 1e3, 1e9])


@settings(max_examples=20)
@given(st.lists(st.tuples(ticks, counted, counted, counted), min_size=1, max_size=8))
def test_whatever_pages_say_it_stays_in_its_bounds(pages):
    pace, at, generated, prefilled = Pace(PoolPace()), 1000.0, 0.0, 0.0
    for tick, wrote, read, running in pages * 20:
        at, generated, prefilled = at + tick, generated + wrote, prefilled + read
        pace.saw(page(generated, prefilled, running), at)

    assert 1 / BOUND <= pace.slowness <= BOUND
