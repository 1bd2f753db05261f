"""Endpoints that fail are left alone, and let back by degrees."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores import HandClock, Log, pod, pods, store_of

from epp.datastore import Sample
from epp.datastore.ejection import verdict
from epp.domain.response import Ending


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(clock):
    return store_of(*pods(4), clock=clock)


def end(store, number, ending=Ending.COMPLETE, status=200, times=1):
    for _ in range(times):
        reservation = store.reserve(pod(number), tokens=1, request_id="a")
        reservation.release(ending, status)


def fail(store, number, times=5):
    end(store, number, Ending.UPSTREAM_ERROR, 503, times)


def names(store):
    return sorted(endpoint.name for endpoint in store.view().endpoints)


def shown(store, number):
    return f"pod-{number}" in names(store)


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        (Ending.COMPLETE, 200, True),
        (Ending.COMPLETE, None, True),
        (Ending.COMPLETE, 404, True),
        (Ending.COMPLETE, 500, False),
        (Ending.COMPLETE, 501, None),
        (Ending.UPSTREAM_ERROR, 505, None),
        (Ending.UPSTREAM_ERROR, None, False),
        (Ending.UPSTREAM_ERROR, 503, False),
        (Ending.CLIENT_GONE, None, None),
        (Ending.CLIENT_GONE, 200, True),
        (Ending.CLIENT_GONE, 502, False),
        (Ending.DRAINED, None, None),
        (Ending.FAULT, None, None),
    ],
)
def test_what_an_ending_says(ending, status, said):
    assert verdict(ending, status) is said


def test_four_failures_are_forgiven(store):
    fail(store, 0, times=4)

    assert shown(store, 0)


def test_five_in_a_row_eject(store):
    fail(store, 0)

    assert names(store) == ["pod-1", "pod-2", "pod-3"]


def test_a_success_between_starts_the_count_anew(store):
    fail(store, 0, times=4)
    end(store, 0)
    fail(store, 0, times=4)

    assert shown(store, 0)


def test_clients_that_leave_say_nothing(store):
    fail(store, 0, times=4)
    end(store, 0, Ending.CLIENT_GONE, None)
    fail(store, 0, times=1)

    assert not shown(store, 0)


def test_never_more_than_half_the_pool(store):
    for number in range(4):
        fail(store, number, times=20)

    assert names(store) == ["pod-2", "pod-3"]


def test_a_lone_endpoint_is_never_ejected():
    store = store_of(pod(0))
    fail(store, 0, times=50)

    assert shown(store, 0)


def test_comes_back_with_one_request_at_a_time(store, clock):
    fail(store, 0)
    clock.tick(5.0)
    assert shown(store, 0)

    store.reserve(pod(0), tokens=1, request_id="a")
    assert not shown(store, 0)


def test_each_success_on_probation_doubles_what_it_may_take(store, clock):
    fail(store, 0)
    clock.tick(5.0)
    store.view()
    end(store, 0, times=2)
    taken = 0
    while shown(store, 0):
        store.reserve(pod(0), tokens=1, request_id="a")
        taken += 1

    assert taken == 4


def test_enough_successes_restore_full_trust(store, clock):
    fail(store, 0)
    clock.tick(5.0)
    store.view()
    end(store, 0, times=6)
    for _ in range(100):
        store.reserve(pod(0), tokens=1, request_id="a")

    assert shown(store, 0)


def test_one_failure_on_probation_ejects_for_twice_as_long(store, clock):
    fail(store, 0)
    clock.tick(5.0)
    assert shown(store, 0)
    fail(store, 0, times=1)
    clock.tick(9.9)
    assert not shown(store, 0)
    clock.tick(0.1)

    assert shown(store, 0)


def test_the_back_off_has_an_end(store, clock):
    fail(store, 0)
    for _ in range(20):
        clock.tick(300.0)
        assert shown(store, 0)
        fail(store, 0, times=1)
        assert not shown(store, 0)


def test_a_client_that_leaves_frees_the_probation(store, clock):
    fail(store, 0)
    clock.tick(5.0)
    store.view()
    reservation = store.reserve(pod(0), tokens=1, request_id="a")
    assert not shown(store, 0)
    reservation.release(Ending.CLIENT_GONE)

    assert shown(store, 0)


def test_failures_count_against_the_endpoint_that_served(store):
    for _ in range(5):
        reservation = store.reserve(pod(0), tokens=1, request_id="a")
        reservation.served_by(pod(1).address)
        reservation.release(Ending.UPSTREAM_ERROR, 503)

    assert names(store) == ["pod-0", "pod-2", "pod-3"]


def test_a_pool_that_shrinks_lets_the_ejected_back(store):
    fail(store, 0)
    fail(store, 1)
    store.set_endpoints("test", [pod(0), pod(1), pod(2)])

    assert len(names(store)) == 2


def test_ejected_ones_serve_when_nothing_else_is_left(store):
    fail(store, 0)
    others = [pod(number, ready=False) for number in (1, 2, 3)]
    store.set_endpoints("test", [pod(0), *others])

    assert names(store) == ["pod-0"]


def test_can_be_turned_off():
    store = store_of(*pods(4), eject_after=0)
    fail(store, 0, times=50)

    assert shown(store, 0)


def test_says_so_when_it_ejects_and_lets_back(clock):
    log = Log()
    store = store_of(*pods(4), clock=clock, log=log)
    fail(store, 0)
    clock.tick(5.0)
    store.view()

    assert log.events() == ["endpoint_ejected", "endpoint_let_back"]


steps = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from([(Ending.COMPLETE, 200), (Ending.UPSTREAM_ERROR, None), None]),
        st.sampled_from([0.0, 1.0, 7.0]),
    ),
    max_size=60,
)


@settings(max_examples=80)
@given(steps)
def test_half_the_pool_is_always_there(taken):
    clock = HandClock()
    store = store_of(*pods(5), clock=clock, eject_after=1)
    for number, ending, seconds in taken:
        clock.tick(seconds)
        if ending is not None:
            end(store, number, *ending)
        assert store.totals().ejected <= 2
        assert len(store.view()) >= 3


def test_a_refused_connection_hides_an_endpoint_at_once(store, clock):
    store.scrape_failed(pod(0).key, clock.now, "connection refused", refused=True)

    assert names(store) == ["pod-1", "pod-2", "pod-3"]


def test_an_endpoint_that_answers_again_is_back(store, clock):
    store.scrape_failed(pod(0).key, clock.now, "connection refused", refused=True)
    store.scraped(pod(0).key, clock.now, Sample())

    assert shown(store, 0)


def test_when_every_port_is_shut_all_are_shown(store, clock):
    for number in range(4):
        store.scrape_failed(pod(number).key, clock.now, "connection refused", refused=True)

    assert len(names(store)) == 4


def test_a_failure_is_told_so_that_somebody_asks(store):
    told = []
    store.on_failure(told.append)
    fail(store, 0, times=1)

    assert [endpoint.name for endpoint in told] == ["pod-0"]
