"""Who leads: never two at once, whatever the network, the clocks and the processes do."""

import heapq
import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.errors import ConfigError
from epp.kube.lease import Elector, Read, Record, Rest, Terms, Write

TERMS = Terms()
OTHER = Record("other", 15.0, 3, "7")


def elector(name="me"):
    return Elector(name, TERMS, random.Random(1))


def leader(now=0.0):
    """One that has just taken a lease that was free."""
    made = elector()
    made.next(now)
    made.found(None, now)
    made.written("1", made.next(now), now)
    return made


def test_looks_before_it_takes():
    assert isinstance(elector().next(0.0), Read)


def test_a_lease_that_is_not_there_is_created():
    made = elector()
    made.next(0.0)
    made.found(None, 0.0)

    assert made.next(0.0) == Write("me", 0, None, acquires=True, timeout=5.0)


def test_a_lease_of_nobody_is_taken_at_once():
    made = elector()
    made.next(0.0)
    made.found(Record("", 1.0, 3, "7"), 0.0)

    assert made.next(0.0) == Write("me", 4, "7", acquires=True, timeout=5.0)


def test_a_lease_of_another_is_taken_when_it_has_not_changed_for_its_duration():
    made = elector()
    made.next(100.0)
    made.found(OTHER, 100.5)
    made.next(110.0)
    made.found(OTHER, 110.0)

    assert isinstance(made.next(115.4), Read)
    assert made.next(115.5) == Write("me", 4, "7", acquires=True, timeout=5.0)


def test_a_longer_lease_of_another_is_respected():
    made = elector()
    made.next(0.0)
    made.found(Record("other", 60.0, 3, "7"), 0.0)

    assert isinstance(made.next(59.0), Read)
    assert isinstance(made.next(60.0), Write)


def test_leads_from_when_it_asked_not_from_when_it_was_answered():
    made = elector()
    made.next(0.0)
    made.found(None, 0.0)
    ask = made.next(1.0)
    made.written("1", ask, 4.0)

    assert made.leading(10.9)
    assert not made.leading(11.0)


def test_renews_without_looking():
    made = leader()

    assert made.next(0.0) == Rest(2.0)
    assert made.next(2.0) == Write("me", 0, "1", acquires=False, timeout=5.0)


def test_a_write_without_an_answer_is_not_believed():
    made = leader()
    made.next(2.0)
    made.failed(7.0)

    assert made.leading(9.9)
    assert not made.leading(10.0)
    assert isinstance(made.next(9.0), Read)


def test_steps_down_at_the_sight_of_another():
    made = leader()
    made.next(2.0)
    made.conflicted(2.1)
    made.next(2.5)
    made.found(OTHER, 2.6)

    assert not made.leading(2.6)


def test_releases_what_it_holds_and_asks_for_nothing_more():
    made = leader()

    assert made.release(1.0) == Write("", 0, "1", acquires=False, timeout=2.0)
    assert not made.leading(1.0)
    assert made.next(99.0) == Rest(math.inf)


def test_a_follower_releases_nothing():
    made = elector()
    made.next(0.0)
    made.found(OTHER, 0.0)

    assert made.release(1.0) is None


@pytest.mark.parametrize(
    ("terms", "flag"),
    [
        ((0.5, 0.4, 0.1), "lease-duration"),
        ((15, 14, 2), "renew-deadline"),
        ((15, 10, 6), "retry-period"),
    ],
)
def test_terms_that_are_not_safe_are_refused(terms, flag):
    with pytest.raises(ConfigError, match=flag):
        Terms(*terms)


# -- never two ------------------------------------------------------------------------------------


class Process:
    """A candidate with a clock of its own: `rate` seconds for each true one."""

    def __init__(self, name, rate, offset):
        self.elector = Elector(name, TERMS, random.Random(name))
        self.rate = rate
        self.offset = offset
        self.alive = True
        self.paused_until = 0.0
        self.cut_off = 0.0
        """The share of its packets that are late or lost."""
        self.asked = 0

    def clock(self, now):
        return self.offset + now * self.rate


class World:
    """True time, one lease, and a network that delays, loses and delivers late."""

    def __init__(self, dice, rates):
        self.dice = dice
        self.now = 0.0
        self.lease = None
        self.versions = itertools.count(1)
        self.due = []
        self.order = itertools.count()
        self.names = itertools.count()
        self.processes = []
        self.terms_led = 0
        for rate in rates:
            self.start(rate)

    def start(self, rate):
        offset = self.dice.one_of(0.0, 1e6, -50.0)
        process = Process(f"p{next(self.names)}", rate, offset)
        self.processes.append(process)
        self.at(self.now, self.act, process)
        self.at(self.now, self.change_weather, process)

    def change_weather(self, process):
        process.cut_off, seconds = self.dice.weather()
        if process.alive:
            self.at(self.now + seconds, self.change_weather, process)

    def at(self, when, what, *args):
        heapq.heappush(self.due, (when, next(self.order), what, args))

    def run(self, steps):
        for _ in range(steps):
            if not self.due:
                return
            when, _, what, args = heapq.heappop(self.due)
            self.now = max(self.now, when)
            what(*args)

    def run_until(self, when):
        while self.due and self.due[0][0] <= when:
            self.run(1)
        self.now = when

    def awake(self, process, what, *args):
        """Whether the process runs now; if it only sleeps, `what` is done when it wakes."""
        if process.alive and self.now < process.paused_until:
            self.at(process.paused_until, what, *args)
            return False
        return process.alive

    def act(self, process):
        if not self.awake(process, self.act, process):
            return
        ask = process.elector.next(process.clock(self.now))
        if isinstance(ask, Rest):
            self.at(self.now + max(ask.seconds / process.rate, 0.001), self.act, process)
            return
        process.asked += 1
        number = process.asked
        there, back = self.dice.delay(process), self.dice.delay(process)
        if there is not None:
            self.at(self.now + there, self.arrive, process, number, ask, back)
        self.at(self.now + ask.timeout / process.rate, self.give_up, process, number)

    def arrive(self, process, number, ask, back):
        """The server acts, be the sender alive or not."""
        answer = self.serve(ask)
        if back is not None:
            self.at(self.now + back, self.answer, process, number, ask, answer)

    def serve(self, ask):
        if isinstance(ask, Read):
            return self.lease
        if (self.lease.version if self.lease else None) != ask.version:
            return "conflict"
        version = str(next(self.versions))
        self.lease = Record(ask.holder, TERMS.duration, ask.transitions, version)
        return version

    def answer(self, process, number, ask, answer):
        if not self.awake(process, self.answer, process, number, ask, answer):
            return
        if number != process.asked:
            return
        process.asked += 1
        now = process.clock(self.now)
        if isinstance(ask, Read):
            process.elector.found(answer, now)
        elif answer == "conflict":
            process.elector.conflicted(now)
        else:
            process.elector.written(answer, ask, now)
            self.terms_led += 1
        self.check()
        self.trouble(process)
        self.act(process)

    def give_up(self, process, number):
        if not self.awake(process, self.give_up, process, number) or number != process.asked:
            return
        process.asked += 1
        process.elector.failed(process.clock(self.now))
        self.act(process)

    def trouble(self, process):
        match self.dice.trouble():
            case "kill":
                process.alive = False
                self.start(process.rate)
            case "pause":
                process.paused_until = self.now + self.dice.one_of(1, 9, 14, 40)
            case "release":
                self.at(self.now, self.release, process)

    def release(self, process):
        if not self.awake(process, self.release, process):
            return
        ask = process.elector.release(process.clock(self.now))
        if ask is not None and (delay := self.dice.delay(process)) is not None:
            self.at(self.now + delay, self.serve, ask)
        process.alive = False
        self.start(process.rate)

    def check(self):
        """A killed process leads nobody; a paused one may come back believing that it leads."""
        leaders = [
            process
            for process in self.processes
            if process.alive and process.elector.leading(process.clock(self.now))
        ]
        assert len(leaders) <= 1


class Dice:
    """What happens by chance."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def one_of(self, *choices):
        return self.random.choice(choices)

    def delay(self, process):
        """Seconds on the way, None for lost."""
        if self.random.random() >= process.cut_off:
            return self.one_of(0.0, 0.01, 0.3)
        return self.one_of(1.9, 4.9, self.random.uniform(0, 20), None)

    def trouble(self):
        return self.one_of("kill", "release", "pause", "pause", *[""] * 60)

    def weather(self):
        """What share of packets is late or lost for a while, and for how long."""
        return self.one_of(0.0, 0.0, 0.0, 0.2, 0.8, 1.0), self.random.uniform(1, 25)


class Calm(Dice):
    def delay(self, process):
        return 0.01

    def trouble(self):
        return ""


RATES = st.lists(st.sampled_from([0.9, 1.0, 1.1]), min_size=2, max_size=4)


@settings(max_examples=60)
@given(st.integers(0, 2**32), RATES)
def test_there_are_never_two_leaders(seed, rates):
    World(Dice(seed), rates).run_until(600.0)


def test_in_a_calm_world_one_leads_and_a_release_hands_over_within_a_retry():
    world = World(Calm(1), [1.0, 1.0, 1.0])
    world.run_until(30.0)
    first = next(p for p in world.processes if p.elector.leading(p.clock(world.now)))
    world.release(first)
    world.run_until(33.0)

    leaders = [p for p in world.processes if p.alive and p.elector.leading(p.clock(world.now))]
    assert len(leaders) == 1
    assert leaders != [first]
