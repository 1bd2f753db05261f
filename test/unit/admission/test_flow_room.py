"""Where a request may go that was let through."""

import numpy as np
import pytest
from support.pools import endpoint, pool, tools

from epp.admission.room import Room
from epp.domain.endpoint import ROLE_LABEL
from epp.domain.request import SubsetHint
from epp.plugins.saturation.learned import LearnedLimitDetector
from epp.plugins.saturation.utilization import UtilizationDetector
from epp.scheduling.subset import in_subset


class Detector:
    """Says what it is told to."""

    def __init__(self, *fullness, brim=None):
        self._fullness = np.array(fullness)
        if brim is not None:
            self.brim = lambda pool: np.array(brim)

    def saturation(self, pool):
        return float(self._fullness.mean())

    def fullness(self, pool):
        return self._fullness


def room(detector, ceiling=1.0):
    return Room(detector, None).mask(pool(3), ceiling).tolist()


def test_only_where_there_is_room():
    assert room(Detector(0.5, 1.0, 2.0)) == [True, False, False]


def test_a_brim_lets_it_go_where_its_prompt_may_be_cached():
    assert room(Detector(0.5, 1.0, 2.0, brim=[0.25, 0.5, 1.0])) == [True, True, False]


def test_a_ceiling_holds_for_the_brim_too():
    detector = Detector(0.3, 0.9, 2.0, brim=[0.15, 0.45, 1.0])

    assert room(detector, ceiling=0.4) == [True, False, False]


def test_a_detector_that_knows_the_pool_alone_says_the_same_of_each():
    class OfThePool:
        def saturation(self, pool):
            return 0.5

    assert room(OfThePool()) == [True, True, True]
    assert room(OfThePool(), ceiling=0.5) == [False, False, False]


LEARNED = LearnedLimitDetector(LearnedLimitDetector.Params(), tools())
UTILIZATION = UtilizationDetector(UtilizationDetector.Params())
detectors = pytest.mark.parametrize("detector", [LEARNED, UTILIZATION], ids=lambda d: d.type)


def half_known(*roles):
    """One endpoint with fresh gauges beside one without."""
    labels = [{ROLE_LABEL: role} for role in roles] or [{}, {}]
    endpoints = [endpoint(number, labels=each) for number, each in enumerate(labels)]
    return pool(endpoints=endpoints, fresh=[True, False])


@detectors
def test_without_gauges_an_endpoint_is_full_beside_others_only(detector):
    levels = Room(detector, in_subset).levels(half_known())
    alone = SubsetHint((("10.0.0.1", None),))

    assert Room(detector, in_subset).mask(half_known(), 1.0).tolist() == [True, False]
    assert levels.of(alone) == 0.0


@detectors
def test_a_side_without_gauges_does_not_hold_up_prefill_and_decode(detector):
    view = half_known("prefill", "decode")
    room = Room(detector, in_subset)

    assert room.levels(view).whole == 0.0
    assert room.mask(view, 1.0).tolist() == [True, True]
