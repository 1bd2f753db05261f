"""Pickers: order, ties, chance and how many."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pools import pool, request, tools

from epp.plugins.pickers.max_score import MaxScorePicker
from epp.plugins.pickers.random_choice import RandomPicker
from epp.plugins.pickers.weighted_random import WeightedRandomPicker

PICKERS = [MaxScorePicker, RandomPicker, WeightedRandomPicker]


def made(picker, seed=1, **params):
    return picker(picker.Params(**params), tools(seed=seed))


def picks(picker, totals, times=1):
    totals = np.array(totals, dtype=float)
    return [list(picker.pick(request(), pool(len(totals)), totals)) for _ in range(times)]


def test_the_highest_total_wins():
    assert picks(made(MaxScorePicker), [0.2, 0.9, 0.5]) == [[1]]


def test_max_score_names_the_best_first():
    assert picks(made(MaxScorePicker, maxNumOfEndpoints=3), [0.2, 0.9, 0.5, 0.1]) == [[1, 2, 0]]


@pytest.mark.parametrize("most", [1, 2])
def test_ties_for_the_best_are_spread_evenly(most):
    picker = made(MaxScorePicker, maxNumOfEndpoints=most)
    firsts = Counter(found[0] for found in picks(picker, [1, 0, 1, 1, 1], times=2000))

    assert firsts.keys() == {0, 2, 3, 4}
    assert all(420 < count < 580 for count in firsts.values())


def test_random_ignores_totals():
    firsts = Counter(found[0] for found in picks(made(RandomPicker), [1, 0, 0, 0], times=2000))

    assert all(420 < firsts[row] < 580 for row in range(4))


def test_weighted_random_follows_the_weights():
    firsts = Counter(
        found[0] for found in picks(made(WeightedRandomPicker), [0.6, 0.3, 0.1, 0], times=5000)
    )

    assert firsts[3] == 0
    assert [firsts[row] / 5000 for row in range(3)] == pytest.approx([0.6, 0.3, 0.1], abs=0.03)


def test_weighted_random_keeps_tiny_weights_apart():
    firsts = Counter(
        found[0] for found in picks(made(WeightedRandomPicker), [3e-9, 1e-9], times=2000)
    )

    assert firsts[0] / 2000 == pytest.approx(0.75, abs=0.04)


def test_weighted_random_without_any_weight_is_random():
    firsts = Counter(found[0] for found in picks(made(WeightedRandomPicker), [0, 0], times=1000))

    assert 420 < firsts[0] < 580


def test_weighted_random_puts_weightless_endpoints_last():
    order = picks(made(WeightedRandomPicker, maxNumOfEndpoints=3), [0, 0.1, 0])[0]

    assert order[0] == 1
    assert set(order) == {0, 1, 2}


@given(
    st.sampled_from(PICKERS),
    st.lists(st.floats(0, 10), min_size=1, max_size=9),
    st.integers(1, 12),
)
def test_every_picker_names_different_endpoints_and_as_many_as_asked(picker, totals, most):
    [found] = picks(made(picker, maxNumOfEndpoints=most), totals)

    assert len(found) == len(set(found)) == min(most, len(totals))
    assert set(found) <= set(range(len(totals)))
