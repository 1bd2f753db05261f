"""Gauges too old to be believed: behind the fresh ones, never idle, never in the way."""

import numpy as np
import pytest
from support.stores import HandClock, pod, pods, scrape, store_of

from epp.datastore import Sample


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(clock):
    return store_of(*pods(3), clock=clock)


def fresh(store):
    return store.view().fresh.tolist()


def test_what_was_never_scraped_is_not_fresh(store):
    view = store.view()

    assert not view.fresh.any()
    assert np.isinf(view.age).all()


def test_age_counts_from_when_the_scrape_began(store, clock):
    began = clock.now
    clock.tick(0.5)
    scrape(store, pod(0), began)
    clock.tick(0.5)

    assert store.view().age[0] == 1.0


@pytest.mark.parametrize(("waited", "believed"), [(2.9, True), (3.1, False)])
def test_three_missed_scrapes_of_its_own_interval_make_it_unknown(store, clock, waited, believed):
    store.scraped(pod(0).key, clock.now, Sample(), 1.0)
    store.scraped(pod(1).key, clock.now, Sample(), 10.0)
    clock.tick(waited)

    assert fresh(store) == [believed, True, False]


def test_a_short_interval_does_not_make_one_slow_page_a_miss(store, clock):
    store.scraped(pod(0).key, clock.now, Sample(), 0.05)
    clock.tick(0.9)

    assert fresh(store)[0]


def test_a_sooner_scrape_than_promised_is_missed_sooner(store, clock):
    store.scraped(pod(0).key, clock.now, Sample(), 2.0)
    store.expect(pod(0).key, 0.5)
    clock.tick(1.6)

    assert not fresh(store)[0]


def test_an_expectation_never_prolongs_belief(store, clock):
    store.scraped(pod(0).key, clock.now, Sample(), 0.5)
    clock.tick(1.0)
    store.expect(pod(0).key, 60.0)
    clock.tick(1.0)

    assert not fresh(store)[0]


def test_a_failed_scrape_refreshes_nothing(store, clock):
    store.scraped(pod(0).key, clock.now, Sample(), 1.0)
    clock.tick(3.1)
    store.scrape_failed(pod(0).key, clock.now, "timeout")

    assert not fresh(store)[0]


def test_an_older_scrape_is_ignored(store, clock):
    scrape(store, pod(0), clock.now, waiting=1)
    scrape(store, pod(0), clock.now - 1, waiting=7)

    assert store.view().waiting[0] == 1


def test_unknown_ranks_behind_the_busiest_fresh_one(store, clock):
    scrape(store, pod(0), clock.now, waiting=4, running=9, kv_usage=0.6)
    scrape(store, pod(1), clock.now)
    view = store.view()

    assert view.waiting.tolist() == [4, 0, 5]
    assert view.running.tolist() == [9, 0, 10]
    assert view.kv_usage.tolist() == [0.6, 0.0, 0.8]


def test_unknown_is_never_idle(store, clock):
    scrape(store, pod(0), clock.now)
    view = store.view()

    assert view.waiting.tolist() == [0, 1, 1]
    assert view.kv_usage.tolist() == [0, 0.5, 0.5]


def test_flattering_old_gauges_are_not_shown(store, clock):
    store.scraped(pod(0).key, clock.now, Sample(waiting=0, kv_usage=0.01), 1.0)
    clock.tick(10)
    scrape(store, pod(1), clock.now, waiting=3, kv_usage=0.5)

    assert store.view().waiting[0] == 4


def test_own_requests_on_an_unknown_endpoint_count_above_that(store, clock):
    scrape(store, pod(0), clock.now)
    for _ in range(5):
        store.reserve(pod(2), tokens=1, request_id="a")

    assert store.view().running.tolist() == [0, 1, 5]


def test_all_unknown_are_equal_but_for_our_own(store):
    store.reserve(pod(1), tokens=1, request_id="a")
    view = store.view()

    assert view.waiting.tolist() == [0, 0, 0]
    assert view.running.tolist() == [0, 1, 0]
    assert view.kv_usage.tolist() == [0, 0, 0]


def test_old_gauges_do_not_count_where_all_are_old(store, clock):
    for number in range(3):
        store.scraped(pod(number).key, clock.now, Sample(waiting=number, running=9), 1.0)
    clock.tick(60)
    view = store.view()

    assert view.waiting.tolist() == view.running.tolist() == [0, 0, 0]
