"""Corners of the queue: what happens seldom, and must not go wrong when it does."""

import math
from collections import Counter

import pytest
from support.pools import pool
from support.queues import flow_settings, levels_of, waiting

from epp.admission.band import MOST_LANES
from epp.admission.machine import MOST_SUBSETS, Machine
from epp.domain.request import SubsetHint

ROOM = levels_of(pool(1))


def machine_of(*those, **settings):
    machine = Machine(flow_settings(**settings))
    for each in those:
        assert machine.offer(each, each.since) == []
    return machine


@pytest.mark.parametrize(
    ("asked", "latest"), [(None, 30.0), (7.0, 7.0), (500.0, 30.0)], ids=["none", "less", "more"]
)
def test_a_pool_that_comes_and_goes_ends_every_wait(asked, latest):
    """Each change starts the budget anew; the whole wait is bounded all the same."""
    one = waiting(1, asked=asked)
    machine = machine_of(one, ttl=10.0, ttl_without_endpoints=20.0)
    one.expires = machine.expiry(one, 0.0)
    for second in range(0, 600, 5):
        machine.pool_is(second % 10 == 0, float(second))
        if machine.expire(float(second)):
            break

    assert one.expires <= latest
    assert not machine


def test_without_limits_a_pool_that_comes_and_goes_ends_nothing():
    one = waiting(1)
    machine = machine_of(one, ttl=math.inf, ttl_without_endpoints=math.inf)
    machine.pool_is(True, 5.0)

    assert one.expires == math.inf


def test_a_deadline_that_is_exactly_now_has_passed():
    machine = machine_of(waiting(1, expires=5.0))

    assert [refusal.waiting.number for refusal in machine.expire(5.0)] == [1]


def test_a_flood_of_those_set_aside_stops_nobody():
    """More than there are lanes for, each tried and without luck."""
    many = [waiting(n, since=float(n), workload=f"w{n}") for n in range(MOST_LANES + 50)]
    machine = machine_of(*many)
    for _ in many:
        chosen, _ = machine.next(ROOM, {}, 1000.0)
        machine.put_back(chosen, 1000.0)
    late = waiting(9999, since=1000.0, workload="late")
    machine.offer(late, 1000.0)
    chosen, _ = machine.next(ROOM, {}, 1000.0)

    assert chosen is late


def test_each_of_a_flood_of_those_set_aside_is_tried_again_and_again():
    many = [waiting(n, since=float(n), workload=f"w{n}") for n in range(MOST_LANES + 50)]
    machine, tries = machine_of(*many), Counter[int]()
    for now in range(1000, 1005):
        while found := machine.next(ROOM, {}, float(now)):
            tries[found[0].number] += 1
            machine.put_back(found[0], float(now))

    assert set(tries.values()) == {5}


def hint(*hosts):
    return SubsetHint(tuple((host, 8000) for host in hosts))


def test_hints_that_name_the_same_endpoints_are_one_while_somebody_waits():
    those = [waiting(1, subset=hint("a", "b")), waiting(2, subset=hint("b", "a")), waiting(3)]
    machine_of(*those)

    assert those[0].subset is those[1].subset
    assert those[2].subset is None


def test_a_flood_of_hints_is_not_remembered():
    machine = machine_of(*(waiting(n, subset=hint(str(n))) for n in range(1000)))
    remembered = len(machine._subsets)
    machine.empty()

    assert remembered <= MOST_SUBSETS
    assert not machine._subsets


def test_in_need_is_who_waits_longest_of_the_highest_band():
    machine = machine_of(waiting(1, priority=-1), waiting(2, priority=3), waiting(3, priority=3))

    assert machine.in_need().number == 2


def test_in_need_is_nobody_who_waits_for_a_particular_endpoint():
    machine = machine_of(waiting(1), waiting(2, since=1.0))
    chosen, _ = machine.next(ROOM, {}, 2.0)
    machine.put_back(chosen, 2.0)

    assert (chosen.number, machine.in_need().number) == (1, 2)
    assert Machine(flow_settings()).in_need() is None
