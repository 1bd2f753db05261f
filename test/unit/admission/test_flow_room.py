"""Where a request may go that was let through."""

import numpy as np
from support.pools import pool

from epp.admission.room import Room


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
