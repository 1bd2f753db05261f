"""New endpoints warm up: from their ready time if it is known, else from when they came."""

import pytest
from support.stores import HandClock, pod, store_of


@pytest.fixture
def clock():
    return HandClock()


def warmth(store):
    return store.view()["warmth"].tolist()


def test_what_is_there_at_the_start_is_warm(clock):
    assert warmth(store_of(pod(0), clock=clock)) == [1.0]


def test_counts_from_the_pods_ready_time(clock):
    store = store_of(pod(0, ready_since=clock.wall() - 15), clock=clock)

    assert warmth(store) == [0.5]


def test_warms_up_with_time(clock):
    store = store_of(pod(0, ready_since=clock.wall()), clock=clock)
    seen = []
    for _ in range(4):
        seen += warmth(store)
        clock.tick(12)

    assert seen == pytest.approx([0.0, 0.4, 0.8, 1.0])


def test_a_pod_ready_for_long_is_warm_even_at_our_first_sight(clock):
    store = store_of(pod(0), clock=clock)
    store.set_endpoints("test", [pod(0), pod(1, ready_since=clock.wall() - 3600)])

    assert warmth(store) == [1.0, 1.0]


def test_a_late_comer_of_unknown_age_counts_from_first_sight(clock):
    store = store_of(pod(0), clock=clock)
    store.set_endpoints("test", [pod(0), pod(1)])
    clock.tick(15)

    assert warmth(store) == [1.0, 0.5]


def test_a_pod_that_becomes_ready_counts_from_then(clock):
    store = store_of(pod(0, ready=False), pod(1), clock=clock)
    clock.tick(600)
    store.set_endpoints("test", [pod(0), pod(1)])
    clock.tick(15)

    assert warmth(store) == [0.5, 1.0]


def test_a_ready_time_in_the_future_is_no_warmer_than_cold(clock):
    assert warmth(store_of(pod(0, ready_since=clock.wall() + 60), clock=clock)) == [0.0]


def test_can_be_turned_off(clock):
    store = store_of(pod(0, ready_since=clock.wall()), clock=clock, slow_start=0.0)

    assert warmth(store) == [1.0]


def test_a_node_whose_clock_is_ahead_makes_nothing_younger_than_now(clock):
    store = store_of(pod(0, ready_since=clock.wall() + 60), clock=clock)
    clock.tick(15)

    assert warmth(store) == [0.5]
