"""How our own dispatches correct what an engine reports."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.datastore.account import corrected

UNKNOWN = math.nan


@pytest.mark.parametrize(
    ("scraped", "unseen", "own", "limit", "expected"),
    [
        pytest.param((0, 0), 0, 0, UNKNOWN, (0, 0), id="idle"),
        pytest.param((0, 2), 3, 3, UNKNOWN, (0, 5), id="unseen-join-the-batch"),
        pytest.param((1, 2), 3, 3, UNKNOWN, (4, 2), id="unseen-queue-behind-a-queue"),
        pytest.param((0, 2), 3, 3, 4, (1, 4), id="what-the-batch-has-no-room-for-waits"),
        pytest.param((0, 4), 3, 3, 4, (3, 4), id="full-batch"),
        pytest.param((0, 5), 1, 1, 4, (1, 5), id="batch-over-its-limit"),
        pytest.param((0, 0), 0, 7, UNKNOWN, (0, 7), id="own-counts-where-the-engine-shows-nothing"),
        pytest.param((2, 9), 0, 3, UNKNOWN, (2, 9), id="others-load-is-not-ours"),
    ],
)
def test_splits_load(scraped, unseen, own, limit, expected):
    assert corrected(*scraped, unseen, own, limit) == expected


counts = st.integers(0, 50)


@given(counts, counts, counts, counts, st.none() | counts)
def test_total_is_the_greater_of_own_and_scraped_plus_unseen(waiting, running, unseen, more, limit):
    own = unseen + more

    load = corrected(waiting, running, unseen, own, math.nan if limit is None else limit)

    assert sum(load) == max(own, waiting + running + unseen)
    assert load[0] >= waiting
    assert load[1] >= running
