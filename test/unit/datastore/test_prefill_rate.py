"""The learned prefill rate: quick enough to follow, slow enough not to be fooled."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.stores import HandClock, pod, scrape, store_of

from epp.datastore.rate import PrefillRate


def learned(*observations, prior=10_000.0):
    rate = PrefillRate(prior)
    for tokens, seconds in observations:
        rate.observe(tokens, seconds)
    return rate.value


def test_starts_at_the_prior():
    assert learned() == 10_000


def test_follows_a_steady_engine():
    assert learned(*[(4_000, 1.0)] * 60) == pytest.approx(4_000, rel=0.1)


def test_weighs_the_first_observation_against_two_seconds_of_prior():
    assert learned((16_000, 1.0)) == pytest.approx(12_000)


@pytest.mark.parametrize(
    ("tokens", "seconds"),
    [(511, 1.0), (math.nan, 1.0), (-5, 1.0), (1000, 0.0), (1000, -1.0), (1000, math.nan)],
)
def test_ignores_what_tells_nothing(tokens, seconds):
    assert learned((tokens, seconds)) == 10_000


def test_one_hang_moves_it_a_little():
    steady = [(10_000, 1.0)] * 30

    assert learned(*steady, (10_000, 600.0)) > 7_500


def test_forgets_the_past():
    assert learned(*[(2_000, 1.0)] * 60, *[(8_000, 1.0)] * 90) == pytest.approx(8_000, rel=0.15)


observations = st.tuples(st.floats(0, 1e9), st.floats(0, 1e6))


@given(st.lists(observations, max_size=40))
def test_is_always_a_positive_number(seen):
    assert 0 < learned(*seen) < math.inf


def test_no_prior_no_rate():
    with pytest.raises(ValueError, match="must be positive"):
        PrefillRate(0)


def prefill_rate(store):
    return store.view()["prefill_rate"][0]


def test_is_learned_from_first_tokens():
    clock = HandClock()
    store = store_of(pod(0), clock=clock)
    for _ in range(40):
        reservation = store.reserve(pod(0), tokens=3_000, request_id="a")
        clock.tick(1.0)
        reservation.first_token()

    assert prefill_rate(store) == pytest.approx(3_000, rel=0.2)


def test_idle_time_does_not_count_as_slowness():
    clock = HandClock()
    store = store_of(pod(0), clock=clock)
    for _ in range(40):
        reservation = store.reserve(pod(0), tokens=10_000, request_id="a")
        clock.tick(1.0)
        reservation.first_token()
        clock.tick(60.0)

    assert prefill_rate(store) == pytest.approx(10_000)


def test_prompts_worked_off_together_count_together():
    clock = HandClock()
    store = store_of(pod(0), clock=clock)
    for _ in range(40):
        reservations = [store.reserve(pod(0), tokens=2_000, request_id="a") for _ in range(5)]
        clock.tick(1.0)
        for reservation in reservations:
            reservation.first_token()

    assert prefill_rate(store) == pytest.approx(10_000)


def test_is_learned_from_the_engines_counter_while_it_has_a_queue():
    clock = HandClock()
    store = store_of(pod(0), clock=clock)
    for number in range(40):
        scrape(store, pod(0), clock.now, waiting=3, prefilled_tokens=number * 4_000.0)
        clock.tick(1.0)

    assert prefill_rate(store) == pytest.approx(4_000, rel=0.15)


def test_the_engines_counter_tells_nothing_without_a_queue():
    clock = HandClock()
    store = store_of(pod(0), clock=clock)
    for number in range(40):
        scrape(store, pod(0), clock.now, waiting=number % 2, prefilled_tokens=number * 4_000.0)
        clock.tick(1.0)

    assert prefill_rate(store) == 10_000
