"""The queue without a clock, a socket or a future: who comes, who goes, who is refused."""

import math
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.pools import pool, tools
from support.queues import band, flow_settings, levels_of, waiting, workload_ordering

from epp.admission.drain import DrainRate
from epp.admission.machine import Machine, Outcome
from epp.domain.request import SubsetHint
from epp.errors import Expired, ExpiredWithoutEndpoints, QueueFull
from epp.plugins.fairness.deficit import DeficitRoundRobinFairnessPolicy
from epp.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from epp.plugins.ordering.fcfs import FcfsOrderingPolicy
from epp.scheduling.subset import in_subset

ROOM = levels_of(pool(inflight_requests=[0]))
NO_ROOM = levels_of(pool(inflight_requests=[1]))


def machine_of(*those, **settings):
    machine = Machine(flow_settings(**settings))
    for each in those:
        assert machine.offer(each, each.since) == []
    return machine


def drained(machine, levels=ROOM, ceilings=None, now=0.0):
    """Numbers of those who go, in order, until nobody can."""
    went = []
    while chosen := machine.next(levels, ceilings or {}, now):
        went.append(chosen[0].number)
    return went


# -- bands ----------------------------------------------------------------------------------------


def test_higher_bands_go_first():
    machine = machine_of(*(waiting(n, priority=p) for n, p in enumerate([0, -1, 10, 0, 10])))

    assert drained(machine) == [2, 4, 0, 3, 1]


def test_a_priority_without_a_band_gets_one_of_its_own():
    """A sheddable request is never promoted to the band of 0."""
    machine = machine_of(waiting(1, priority=-1), waiting(2, priority=0), waiting(3, priority=-7))

    assert [b.priority for b in machine.bands] == [0, -1, -7]


def test_the_negative_template_is_for_priorities_below_zero():
    settings = flow_settings(negative=band(max_requests=1))
    machine = Machine(settings)
    refusals = [machine.offer(waiting(n, priority=p), 0.0) for n, p in enumerate([-3, -3, 4, 4])]

    assert [len(r) for r in refusals] == [0, 1, 0, 0]


def test_a_band_that_is_held_back_stops_nobody_below_it():
    machine = machine_of(waiting(1, priority=5), waiting(2, priority=0))

    assert drained(machine, ceilings={5: 0.0, 0: 1.0}) == [2]


def test_without_room_nobody_goes():
    machine = machine_of(waiting(1))

    assert drained(machine, NO_ROOM) == []
    assert len(machine) == 1


# -- flows, lanes, subsets ------------------------------------------------------------------------


def test_flows_take_turns():
    fair = band(FcfsOrderingPolicy(), RoundRobinFairnessPolicy(tools()))
    those = [waiting(n, flow=flow) for n, flow in enumerate("aaaabbc")]

    assert drained(machine_of(*those, default=fair)) == [0, 4, 6, 1, 5, 2, 3]


def test_a_full_subset_is_in_nobodys_way():
    view = pool(inflight_requests=[1, 0])
    full, free = (SubsetHint(((e.host, e.port),)) for e in view.endpoints)
    those = [waiting(1, subset=full), waiting(2, subset=free), waiting(3)]
    levels = levels_of(view, within=in_subset)

    assert drained(machine_of(*those), levels) == [2, 3]


def test_who_is_put_back_keeps_its_place_and_stops_nobody():
    machine = machine_of(*(waiting(n, since=float(n)) for n in (1, 2, 3)))
    first, _ = machine.next(ROOM, {}, 3.0)
    machine.put_back(first, 3.0)
    before, retry = drained(machine, now=3.0), machine.next_look

    assert (first.number, before, drained(machine, now=retry)) == (1, [2, 3], [1])


def test_who_never_finds_room_is_tried_ever_less_often():
    machine, now, tried = machine_of(waiting(1)), 0.0, []
    for _ in range(9):
        chosen = machine.next(ROOM, {}, now)
        machine.put_back(chosen[0], now)
        tried.append(round(machine.next_look - now, 2))
        now = machine.next_look
        machine.expire(now)

    assert tried == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0]


def test_a_flood_of_flows_shares_queues():
    machine = machine_of(*(waiting(n, flow=f"flow-{n}") for n in range(3000)))
    (only,) = machine.bands

    assert len(only.flows) <= 160
    assert sorted(drained(machine)) == list(range(3000))
    assert machine.bands == ()


def test_a_flood_of_flows_leaves_the_others_their_turns():
    """Ids beyond the number of queues share some; what they get is charged to those."""
    params = DeficitRoundRobinFairnessPolicy.Params(quantum=10)
    fairness = DeficitRoundRobinFairnessPolicy(params, tools())
    machine = Machine(flow_settings(default=band(FcfsOrderingPolicy(), fairness)))
    for number in range(2000):
        machine.offer(waiting(number, flow=f"flood-{number}"), 0.0)
    went = Counter()
    for _ in range(1600):
        chosen, _ = machine.next(ROOM, {}, 0.0)
        fairness.dispatched(chosen, 9, 0.0)
        went[chosen.queue] += 1
    shares = [count for queue, count in went.items() if queue.startswith("\0")]

    assert max(shares) - min(shares) <= 60


# -- limits ---------------------------------------------------------------------------------------


def test_a_full_band_refuses_who_comes():
    machine = machine_of(waiting(1), waiting(2), default=band(max_requests=2))
    (refusal,) = machine.offer(waiting(3), 0.0)

    assert refusal.waiting.number == 3
    assert isinstance(refusal.error, QueueFull)
    assert refusal.outcome is Outcome.REJECTED_CAPACITY


def test_a_full_band_of_an_empty_pool_says_that_no_endpoint_is_there():
    machine = machine_of(waiting(1), default=band(max_requests=1))
    machine.pool_is(True, 0.0)
    (refusal,) = machine.offer(waiting(2), 0.0)

    assert (refusal.error.status, refusal.error.reason) == (503, "no-endpoints")
    assert refusal.outcome is Outcome.REJECTED_NO_ENDPOINTS


def test_bytes_count_as_well():
    machine = machine_of(waiting(1, body_size=600), default=band(max_bytes=1000))

    assert len(machine.offer(waiting(2, body_size=600), 0.0)) == 1
    assert machine.offer(waiting(3, body_size=300), 0.0) == []


def test_the_newest_of_the_lowest_band_gives_way_to_a_higher_one():
    those = [waiting(n, priority=p) for n, p in enumerate([0, -1, -2, -2])]
    machine = machine_of(*those, max_requests=4)
    (refusal,) = machine.offer(waiting(9, priority=1), 0.0)

    assert refusal.waiting.number == 3
    assert drained(machine) == [9, 0, 1, 2]


def test_equals_do_not_give_way():
    machine = machine_of(waiting(1), max_requests=1)
    (refusal,) = machine.offer(waiting(2), 0.0)

    assert refusal.waiting.number == 2


class Counting(DrainRate):
    """Counts how often it was asked when it is worth trying again: once for each refusal."""

    asked = 0

    def retry_after(self, ahead, now):
        self.asked += 1
        return super().retry_after(ahead, now)


def test_who_would_stay_all_the_same_costs_nothing():
    low = [waiting(n, priority=-1, body_size=1) for n in range(500)]
    machine = machine_of(*low, waiting(900, priority=5, body_size=400), max_bytes=1000)
    machine.drain = Counting()
    (refusal,) = machine.offer(waiting(901, priority=3, body_size=900), 0.0)

    assert (refusal.waiting.number, machine.drain.asked) == (901, 1)


def test_nobody_gives_way_to_what_cannot_fit():
    machine = machine_of(
        waiting(1, priority=-1), waiting(2, priority=0, body_size=80), max_bytes=100
    )
    (refusal,) = machine.offer(waiting(3, priority=1, body_size=200), 0.0)

    assert (refusal.waiting.number, len(machine)) == (3, 2)


# -- time -----------------------------------------------------------------------------------------


def test_who_has_waited_too_long_is_refused():
    machine = machine_of(waiting(1, expires=5.0), waiting(2, expires=9.0))
    early, late = machine.expire(4.9), machine.expire(5.0)

    assert early == []
    assert [(r.waiting.number, type(r.error), r.outcome) for r in late] == [
        (1, Expired, Outcome.EVICTED_TTL)
    ]
    assert machine.next_deadline == 9.0


def test_an_empty_pool_has_a_budget_of_its_own_that_starts_anew():
    machine = machine_of(waiting(1, expires=5.0), ttl=5.0, ttl_without_endpoints=100.0)
    machine.pool_is(True, 4.0)
    during = machine.next_deadline
    machine.pool_is(False, 50.0)

    assert (during, machine.next_deadline) == (104.0, 55.0)


def test_expired_without_endpoints_is_another_status():
    machine = machine_of(waiting(1), ttl_without_endpoints=1.0)
    machine.pool_is(True, 0.0)
    (refusal,) = machine.expire(1.0)

    assert isinstance(refusal.error, ExpiredWithoutEndpoints)
    assert (refusal.error.status, refusal.outcome) == (503, Outcome.EVICTED_NO_ENDPOINTS)


@pytest.mark.parametrize(("asked", "expected"), [(None, 60.0), (2.0, 2.0), (500.0, 60.0)])
def test_a_client_may_ask_for_less_never_for_more(asked, expected):
    assert machine_of().budget(asked) == expected


def test_retry_after_follows_what_drains():
    machine = machine_of(*(waiting(n) for n in range(100)), default=band(max_requests=100))
    for second in range(200):
        machine.drain.left(second / 10)
    (refusal,) = machine.offer(waiting(999), 20.0)

    assert 8 <= refusal.error.retry_after <= 14


def test_a_quiet_hour_before_a_burst_does_not_count_as_slow():
    drain = DrainRate()
    for second in (0.0, 3600.0):
        for number in range(100):
            drain.left(second + number / 100)

    assert 7 <= drain.retry_after(800, 3601.0) <= 9


def test_one_that_leaves_every_20_seconds_is_no_pause():
    drain = DrainRate()
    for number in range(10):
        drain.left(20.0 * number)

    assert drain.retry_after(1, 185.0) >= 10


def test_without_anything_draining_it_says_so_too():
    machine = machine_of(waiting(1), default=band(max_requests=1))
    (refusal,) = machine.offer(waiting(2), 0.0)

    assert refusal.error.retry_after >= 1


# -- other rules ----------------------------------------------------------------------------------


def test_new_settings_lose_nobody():
    machine = machine_of(*(waiting(n, flow="abc"[n % 3]) for n in range(30)))
    machine.reconfigure(flow_settings(default=band(FcfsOrderingPolicy(), max_requests=2)))

    assert drained(machine) == list(range(30))


def test_who_withdraws_is_gone_at_once():
    machine = machine_of(*(waiting(n, body_size=10, expires=60.0) for n in range(1000)))
    for number in range(999):
        machine.withdraw(f"r{number}")
    (only,) = machine.bands

    assert (len(machine), machine.bytes, len(only)) == (1, 10, 1)
    assert machine.held < 40
    assert machine.withdraw("r5") is None


# -- starvation -----------------------------------------------------------------------------------

ARRIVAL = st.tuples(
    st.floats(0.0, 3.0), st.integers(1, 5), st.sampled_from("abc"), st.integers(0, 5000)
)


@settings(max_examples=60)
@given(st.lists(ARRIVAL, min_size=1, max_size=60), st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_nobody_is_overtaken_by_who_came_later_than_the_limit(arrivals, step, penalty):
    """One endpoint that takes one request each second, whatever comes meanwhile."""
    ordering = workload_ordering(criticality_step=step, rate_penalty=penalty, activity_window=99.0)
    machine = Machine(flow_settings(default=band(ordering)))
    due, now, number = list(arrivals), 0.0, 0
    since, came, went = 0.0, [], []
    while due or len(machine):
        while due and since + due[0][0] <= now:
            pause, criticality, workload, tokens = due.pop(0)
            since += pause
            number += 1
            each = waiting(
                number,
                since=since,
                criticality=criticality,
                workload=workload,
                prompt_tokens=tokens,
            )
            machine.offer(each, since)
            came.append(each)
        chosen = machine.next(ROOM, {}, now)
        if chosen is not None:
            went.append(chosen[0])
            ordering.dispatched(chosen[0], chosen[0].tokens, now)
        now += 1.0

    place = {each.number: index for index, each in enumerate(went)}
    for early in came:
        overtakers = [w for w in went[: place[early.number]] if w.number > early.number]
        assert all(w.since - early.since <= ordering.limit + 1e-6 for w in overtakers)
    assert len(went) == len(arrivals)


class Queue(RuleBasedStateMachine):
    """The machine against plain lists, whatever happens in whatever order."""

    def __init__(self):
        super().__init__()
        self.machine = Machine(
            flow_settings(default=band(max_requests=4), max_requests=9, max_bytes=500, ttl=10.0)
        )
        self.number = 0
        self.now = 0.0
        self.there = {}

    @rule(
        priority=st.sampled_from([-1, 0, 5]),
        flow=st.sampled_from("abc"),
        criticality=st.integers(1, 5),
        size=st.integers(0, 200),
    )
    def come(self, priority, flow, criticality, size):
        self.number += 1
        each = waiting(
            self.number,
            since=self.now,
            priority=priority,
            flow=flow,
            criticality=criticality,
            body_size=size,
            expires=self.now + 10.0,
        )
        self.there[each.number] = each
        for refusal in self.machine.offer(each, self.now):
            del self.there[refusal.waiting.number]
            assert refusal.waiting.priority <= priority

    @rule()
    def go(self):
        chosen = self.machine.next(ROOM, {}, self.now)
        able = [each for each in self.there.values() if each.retry_at <= self.now]
        assert (chosen is None) is (not able)
        if chosen:
            highest = max(each.priority for each in able)
            assert self.there.pop(chosen[0].number).priority == highest

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def leave(self, data):
        each = self.there.pop(data.draw(st.sampled_from(sorted(self.there))))
        assert self.machine.withdraw(each.request.id) is each

    @precondition(lambda self: self.there)
    @rule()
    def find_no_room(self):
        chosen = self.machine.next(ROOM, {}, self.now)
        if chosen:
            self.machine.put_back(chosen[0], self.now)

    @rule(seconds=st.floats(0.0, 4.0))
    def wait(self, seconds):
        self.now += seconds
        gone = {refusal.waiting.number for refusal in self.machine.expire(self.now)}
        assert gone == {n for n, each in self.there.items() if each.expires <= self.now}
        for number in gone:
            del self.there[number]

    @rule(empty=st.booleans())
    def pool_changes(self, empty):
        self.machine.pool_is(empty, self.now)

    @rule()
    def reload(self):
        self.machine.reconfigure(self.machine.settings)

    @invariant()
    def nothing_is_lost_and_nothing_is_left(self):
        assert len(self.machine) == len(self.there)
        assert self.machine.bytes == sum(each.size for each in self.there.values())
        by_priority = defaultdict(int)
        for each in self.there.values():
            by_priority[each.priority] += 1
        assert {b.priority: len(b) for b in self.machine.bands} == by_priority
        soonest = min((each.expires for each in self.there.values()), default=math.inf)
        assert self.machine.next_deadline <= soonest
        assert self.machine.held <= 2 * len(self.there) + 20


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40)
