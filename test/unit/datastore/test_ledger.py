"""Reservations: what is counted where, and that it is freed exactly once."""

import pytest
from support.stores import HandClock, pod, scrape, store_of

from epp.domain.response import Ending


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(clock):
    store = store_of(pod(0), pod(1), clock=clock, prefill_prior=100.0)
    for number in (0, 1):
        scrape(store, pod(number), clock.now)
    return store


def row(store, number=0):
    """In flight: requests, prompt tokens, decoding."""
    view = store.view()
    at = [endpoint.name for endpoint in view.endpoints].index(f"pod-{number}")
    names = ("inflight_requests", "inflight_tokens", "inflight_decoding")
    return tuple(int(view[name][at]) for name in names)


def test_a_reservation_counts_at_once(store):
    store.reserve(pod(0), tokens=40, request_id="a")

    assert row(store) == (1, 40, 0)


def test_the_first_token_ends_prefill(store):
    store.reserve(pod(0), tokens=40, request_id="a").first_token()

    assert row(store) == (1, 0, 1)


def unseen(store):
    return int(store.view()["unseen_tokens"][0])


def test_prompts_stay_unseen_until_a_scrape_that_began_after_them(store, clock):
    store.reserve(pod(0), tokens=40, request_id="a").first_token()
    before = unseen(store)
    clock.now += 1.0
    scrape(store, pod(0), clock.now)

    assert (before, unseen(store)) == (40, 0)


def test_what_has_ended_is_no_longer_unseen(store):
    first, _ = (store.reserve(pod(0), tokens=n, request_id=str(n)) for n in (40, 7))
    first.release(Ending.COMPLETE)

    assert unseen(store) == 7


def test_a_second_first_token_changes_nothing(store):
    reservation = store.reserve(pod(0), tokens=40, request_id="a")
    reservation.first_token()
    reservation.first_token()

    assert row(store) == (1, 0, 1)


@pytest.mark.parametrize("ending", list(Ending))
@pytest.mark.parametrize("seen", [False, True], ids=["in-prefill", "in-decode"])
def test_every_ending_frees_everything(store, ending, seen):
    reservation = store.reserve(pod(0), tokens=40, request_id="a")
    if seen:
        reservation.first_token()
    reservation.release(ending)

    assert row(store) == (0, 0, 0)


def test_a_second_release_frees_nothing_more(store):
    kept = store.reserve(pod(0), tokens=7, request_id="a")
    freed = store.reserve(pod(0), tokens=40, request_id="b")
    freed.release(Ending.COMPLETE, 200)
    freed.release(Ending.FAULT)
    freed.first_token()

    assert row(store) == (1, 7, 0)
    assert freed.released
    assert not kept.released


def test_equal_request_ids_never_meet(store):
    first = store.reserve(pod(0), tokens=1, request_id="same")
    store.reserve(pod(0), tokens=2, request_id="same")
    first.release(Ending.COMPLETE)

    assert row(store) == (1, 2, 0)


def test_load_moves_to_the_endpoint_that_served(store):
    reservation = store.reserve(pod(0), tokens=40, request_id="a")
    reservation.served_by("10.0.0.2:8000")

    assert (row(store, 0), row(store, 1)) == ((0, 0, 0), (1, 40, 0))
    assert reservation.endpoint == pod(1)


def test_load_stays_when_a_stranger_served(store):
    reservation = store.reserve(pod(0), tokens=40, request_id="a")
    reservation.served_by("192.0.2.1:80")

    assert row(store) == (1, 40, 0)


def test_moved_load_is_freed_where_it_went(store):
    reservation = store.reserve(pod(0), tokens=40, request_id="a")
    reservation.first_token()
    reservation.served_by("10.0.0.2:8000")
    reservation.release(Ending.COMPLETE)

    assert (row(store, 0), row(store, 1)) == ((0, 0, 0), (0, 0, 0))


def test_unseen_prefill_drains_at_the_learned_rate(store, clock):
    store.reserve(pod(0), tokens=50, request_id="a", drain=True)
    clock.tick(0.2)

    assert row(store) == (1, 30, 0)


def test_drained_prefill_decodes(store, clock):
    store.reserve(pod(0), tokens=50, request_id="a", drain=True)
    store.reserve(pod(0), tokens=50, request_id="b", drain=True)
    clock.tick(0.75)

    assert row(store) == (2, 25, 1)


def test_a_draining_request_that_leaves_frees_only_its_own_rest(store, clock):
    store.reserve(pod(0), tokens=50, request_id="a", drain=True)
    gone = store.reserve(pod(0), tokens=60, request_id="b", drain=True)
    clock.tick(0.25)
    gone.release(Ending.CLIENT_GONE)

    assert row(store) == (1, 25, 0)


def test_a_fully_cached_prompt_decodes_from_the_start_where_nothing_is_seen(store):
    store.reserve(pod(0), tokens=0, request_id="a", drain=True)

    assert row(store) == (1, 0, 1)


def test_an_endpoint_that_has_gone_counts_nowhere(store):
    reservation = store.reserve(pod(9), tokens=5, request_id="a")
    reservation.first_token()
    reservation.release(Ending.COMPLETE)

    assert (row(store, 0), row(store, 1)) == ((0, 0, 0), (0, 0, 0))


def test_requests_outlive_their_endpoint(store):
    reservation = store.reserve(pod(0), tokens=5, request_id="a", drain=True)
    store.set_endpoints("test", [pod(1)])
    store.set_endpoints("test", [pod(0), pod(1)])
    reservation.release(Ending.COMPLETE)

    assert row(store) == (0, 0, 0)


def test_negative_tokens_are_refused(store):
    with pytest.raises(ValueError, match="tokens must not be negative, not -1"):
        store.reserve(pod(0), tokens=-1, request_id="a")


def test_a_terminating_endpoint_keeps_its_count(store):
    store.reserve(pod(0), tokens=5, request_id="a")
    store.set_endpoints("test", [pod(0, ready=False), pod(1)])

    assert store.view().endpoints == (pod(1),)
    assert store.totals().inflight_requests == 1


def test_dispatches_after_a_scrape_are_added_to_it(store, clock):
    clock.tick(1)
    scrape(store, pod(0), clock.now, running=5)
    clock.tick(0.1)
    store.reserve(pod(0), tokens=5, request_id="a")

    assert store.view().running[0] == 6


def test_a_dispatch_shortly_before_a_scrape_may_not_have_arrived(store, clock):
    store.reserve(pod(0), tokens=5, request_id="a")
    clock.tick(0.04)
    scrape(store, pod(0), clock.now, running=5)

    assert store.view().running[0] == 6


def test_a_dispatch_long_before_a_scrape_is_in_it(store, clock):
    store.reserve(pod(0), tokens=5, request_id="a")
    clock.tick(0.06)
    scrape(store, pod(0), clock.now, running=5)

    assert store.view().running[0] == 5


def test_what_was_dispatched_while_a_scrape_travelled_is_added(store, clock):
    began = clock.now
    clock.tick(0.3)
    store.reserve(pod(0), tokens=5, request_id="a")
    clock.tick(0.3)
    scrape(store, pod(0), began, running=5)

    assert store.view().running[0] == 6


def test_own_requests_count_even_if_the_engine_shows_none(store, clock):
    for number in range(3):
        store.reserve(pod(0), tokens=5, request_id=str(number))
    clock.tick(5)
    scrape(store, pod(0), clock.now)

    assert store.view().running[0] == 3


def test_a_dispatch_just_as_old_as_the_arrival_delay_is_in_the_scrape():
    clock = HandClock()
    store = store_of(pod(0), clock=clock, arrival_delay=0.25)
    store.reserve(pod(0), tokens=5, request_id="a")
    clock.tick(0.25)
    scrape(store, pod(0), clock.now, running=5)

    assert store.view().running[0] == 5


def test_moved_load_is_not_added_to_a_scrape_that_has_seen_it(store, clock):
    reservation = store.reserve(pod(0), tokens=5, request_id="a")
    clock.tick(1)
    scrape(store, pod(1), clock.now, running=5)
    reservation.served_by(pod(1).address)

    assert store.view().running.tolist() == [0, 5]


@pytest.mark.parametrize("others", [0, 30], ids=["a-few-drain", "many-drain"])
def test_endpoints_drain_alike_however_many_do(clock, others):
    members = [pod(number) for number in range(2 + others)]
    store = store_of(*members, clock=clock, prefill_prior=100.0)
    for member in members:
        scrape(store, member, clock.now)
    for number, member in enumerate(members):
        store.reserve(member, tokens=50, request_id="a", drain=True)
        store.reserve(member, tokens=7 + number, request_id="b", drain=True)
    clock.tick(0.525)

    assert (row(store, 0), row(store, 1)) == ((2, 5, 1), (2, 6, 1))
