"""What people and gauges are shown."""

import json

import pytest
from support.stores import HandClock, pod, pods, scrape, store_of


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(clock):
    store = store_of(*pods(3), clock=clock)
    scrape(store, pod(0), clock.now, waiting=2, running=4, kv_usage=0.5, custom={"heat": 1.0})
    scrape(store, pod(1), clock.now, waiting=4, running=4, kv_usage=0.7)
    return store


def test_describes_raw_and_corrected_gauges(store, clock):
    clock.tick(1)
    store.reserve(pod(0), tokens=9, request_id="a")
    [first, *_] = store.describe()

    assert first["raw"]["waiting"] == 2
    assert first["corrected"] == {"waiting": 3, "running": 4}
    assert first["inflight"] == {"requests": 1, "tokens": 9, "decoding": 0, "unseen": 1}
    assert first["age"] == 1


def test_describes_what_is_not_known_as_nothing(store):
    last = store.describe()[-1]

    assert (last["age"], last["max_running"], last["fresh"]) == (None, None, False)


def test_descriptions_stand_in_the_order_of_endpoints(store):
    store.set_endpoints("test", [pod(7), pod(2), pod(0)])

    assert [one["name"] for one in store.describe()] == ["pod-7", "pod-2", "pod-0"]
    assert [endpoint.name for endpoint in store.endpoints] == ["pod-7", "pod-2", "pod-0"]


def test_descriptions_are_plain_json(store):
    assert json.loads(json.dumps(store.describe(), allow_nan=False)) == store.describe()


def test_describes_why_a_scrape_failed(store, clock):
    store.scrape_failed(pod(2).key, clock.now, "no page within 1 s")

    assert store.describe()[-1]["scrape_error"] == "no page within 1 s"


def test_totals_are_over_fresh_endpoints(store):
    totals = store.totals()

    assert (totals.endpoints, totals.ready, totals.pickable, totals.fresh) == (3, 3, 3, 2)
    assert (totals.waiting_mean, totals.waiting_deviation) == (3, 1)
    assert totals.kv_usage_mean == pytest.approx(0.6)


def test_totals_of_nothing_are_zero():
    totals = store_of().totals()

    assert (totals.endpoints, totals.waiting_mean, totals.kv_usage_deviation) == (0, 0, 0)


def test_totals_count_requests_on_endpoints_that_terminate(store):
    store.reserve(pod(0), tokens=9, request_id="a")
    store.set_endpoints("test", [pod(0, ready=False), pod(1)])

    assert (store.totals().inflight_requests, store.totals().inflight_tokens) == (1, 9)
