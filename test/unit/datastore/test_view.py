"""The view: which endpoints, which columns, and what may change under a reader's eyes."""

import math

import numpy as np
import pytest
from support.stores import ALWAYS, HandClock, pod, pods, scrape, store_of

from epp.datastore import LoraState, Sample


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(clock):
    store = store_of(*pods(3), clock=clock)
    for number in range(3):
        scrape(store, pod(number), clock.now, waiting=number, running=1, kv_usage=number / 4)
    return store


def names(store):
    return [endpoint.name for endpoint in store.view().endpoints]


def test_columns_stand_in_the_order_of_endpoints(store):
    view = store.view()

    assert [endpoint.name for endpoint in view.endpoints] == ["pod-0", "pod-1", "pod-2"]
    assert view.waiting.tolist() == [0, 1, 2]
    assert view.kv_usage.tolist() == [0, 0.25, 0.5]


def test_every_column_has_a_place_for_each_endpoint(store):
    view = store.view()

    assert {column.shape for column in view.columns.values()} == {(3,)}


@pytest.mark.parametrize("name", ["inflight_requests", "inflight_tokens", "slots"])
def test_counts_are_whole_numbers(store, name):
    assert store.view()[name].dtype == np.int64


def test_an_empty_pool_has_an_empty_view():
    view = store_of().view()

    assert len(view) == 0
    assert {column.shape for column in view.columns.values()} == {(0,)}


def test_shows_what_is_ready(store):
    store.set_endpoints("test", [pod(0), pod(1, ready=False), pod(2)])

    assert names(store) == ["pod-0", "pod-2"]
    assert store.view().waiting.tolist() == [0, 2]


def test_sleeping_engines_are_not_shown(store, clock):
    scrape(store, pod(1), clock.now, sleeping=True)

    assert names(store) == ["pod-0", "pod-2"]


def test_an_engine_that_wakes_up_is_shown_again(store, clock):
    scrape(store, pod(1), clock.now, sleeping=True)
    store.view()
    scrape(store, pod(1), clock.now)

    assert sorted(names(store)) == ["pod-0", "pod-1", "pod-2"]


def test_sleeping_engines_are_shown_if_there_are_no_others(store, clock):
    for number in range(3):
        scrape(store, pod(number), clock.now, sleeping=True)

    assert len(store.view()) == 3


def test_a_scrape_does_not_change_a_view_in_use(store, clock):
    before = store.view()
    scrape(store, pod(0), clock.now, waiting=40, kv_usage=0.9, custom={"heat": 3.0})

    assert (before.waiting[0], before.kv_usage[0]) == (0, 0)
    assert (store.view().waiting[0], store.view().kv_usage[0]) == (40, 0.9)


def test_a_new_set_does_not_change_a_view_in_use(store):
    before = store.view()
    store.set_endpoints("test", [pod(2)])

    assert before.waiting.tolist() == [0, 1, 2]


def test_in_flight_columns_are_shared_with_the_ledger(store):
    view = store.view()
    store.reserve(pod(1), tokens=5, request_id="a")

    assert view.inflight_requests.tolist() == [0, 1, 0]
    assert view.inflight_tokens.tolist() == [0, 5, 0]


def test_sixty_four_requests_between_scrapes_are_all_seen(store):
    for _ in range(64):
        view = store.view()
        least = int(np.argmin(view.inflight_requests))
        store.reserve(view.endpoints[least], tokens=1, request_id="a")

    assert sorted(store.view().inflight_requests.tolist()) == [21, 21, 22]


def test_what_a_sample_says_of_the_engine_is_shown(store, clock):
    lora = LoraState(frozenset({"sql"}), frozenset(), 4)
    scrape(store, pod(1), clock.now, max_running=64, kv_blocks=900, block_size=16, lora=lora)
    view = store.view()

    assert view["max_running"][1] == 64
    assert view["kv_blocks"].tolist() == [0, 900, 0]
    assert view["block_size"].tolist() == [0, 16, 0]
    assert view["lora"].tolist() == [LoraState(), lora, LoraState()]


def test_custom_gauges_become_columns(store, clock):
    scrape(store, pod(1), clock.now, custom={"heat": 70.0})

    assert store.view()["heat"].tolist() == pytest.approx([math.nan, 70, math.nan], nan_ok=True)


def test_custom_columns_outlive_a_new_set(store, clock):
    scrape(store, pod(1), clock.now, custom={"heat": 70.0})
    store.set_endpoints("test", [pod(5), pod(1)])

    assert store.view()["heat"].tolist() == pytest.approx([70, math.nan], nan_ok=True)


def test_a_custom_gauge_that_vanishes_is_unknown(store, clock):
    scrape(store, pod(1), clock.now, custom={"heat": 70.0})
    scrape(store, pod(1), clock.now)

    assert math.isnan(store.view()["heat"][1])


def test_a_custom_gauge_cannot_take_a_known_columns_place(store, clock):
    scrape(store, pod(1), clock.now, waiting=1, custom={"waiting": 70.0, "age": 1.0})

    assert store.view().waiting.tolist() == [0, 1, 2]


def test_a_scrape_of_a_stranger_is_ignored(store, clock):
    store.scraped("default/nobody/", clock.now, Sample(waiting=1), ALWAYS)
    store.scrape_failed("default/nobody/", clock.now, "timeout")
    store.expect("default/nobody/", 1.0)

    assert len(store.view()) == 3
