"""A line with no slope below 0, through samples that fade."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.datastore.regression import BATCH, ForgettingFit, solved

slopes = st.lists(st.floats(0.0, 5.0), min_size=3, max_size=3)


def taught(fit, truth, samples, seed=1):
    chance = np.random.default_rng(seed)
    for _ in range(samples):
        x = np.array([1.0, *chance.uniform(0, 2, len(truth) - 1)])
        y = float(np.dot(truth, x))
        fit.learn(x, y, max(y, 0.1))
    return fit


@given(slopes)
@settings(max_examples=30)
def test_it_finds_the_line_that_is_there(truth):
    fit = taught(ForgettingFit(3, 0.998), truth, 200)
    x = np.array([1.0, 1.3, 0.4])

    assert fit.of(x) == pytest.approx(float(np.dot(truth, x)), rel=0.02, abs=0.02)


@given(st.lists(st.floats(-5.0, 5.0), min_size=3, max_size=3))
@settings(max_examples=30)
def test_no_coefficient_is_ever_below_zero(truth):
    fit = ForgettingFit(3, 0.998)
    chance = np.random.default_rng(2)
    for _ in range(10 * BATCH):
        x = np.array([1.0, *chance.uniform(0, 2, 2)])
        fit.learn(x, float(np.dot(truth, x)), 1.0)

    assert fit.coefficients.min() >= 0


def test_a_new_line_takes_the_place_of_the_old_one():
    fit = taught(ForgettingFit(2, 0.98), [1.0, 2.0], 500)
    taught(fit, [3.0, 0.5], 500, seed=3)

    assert fit.coefficients == pytest.approx([3.0, 0.5], rel=0.02)


def test_features_that_always_go_together_share_their_weight():
    fit = ForgettingFit(3, 0.998)
    for y in np.linspace(1, 2, 64):
        fit.learn(np.array([1.0, y, y]), 1.0 + 2 * y, 1.0)

    assert fit.coefficients == pytest.approx([1.0, 1.0, 1.0], rel=0.05)


def test_a_feature_that_never_showed_has_no_weight():
    fit = ForgettingFit(2, 0.998)
    for _ in range(BATCH):
        fit.learn(np.array([1.0, 0.0]), 3.0, 1.0)

    assert fit.coefficients == pytest.approx([3.0, 0.0], rel=1e-3)


def test_scaling_scales_what_is_still_pending():
    fit = taught(ForgettingFit(2, 0.998), [1.0, 1.0], 3 * BATCH + 3)
    fit.scale(4.0)
    taught(fit, [4.0, 4.0], BATCH)

    assert fit.coefficients == pytest.approx([4.0, 4.0], rel=0.01)


def test_nothing_seen_is_nothing_said():
    assert solved(np.zeros((2, 2)), np.zeros(2)).tolist() == [0.0, 0.0]
