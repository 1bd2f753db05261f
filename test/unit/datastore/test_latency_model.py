"""Latencies are learned from answers, followed when they change, and not spoiled by nonsense."""

import math

import numpy as np
import pytest
from support.replica_times import Replicas
from support.stores import HandClock

from epp.datastore.latency import MOST_CLASSES, LatencyModel

READS = ((0, 1, 2, 3, 4, 5, 6), (0, 3, 4, 6))
TTFT, TPOT = 0, 1
LEAST = 48


class World:
    """Eight endpoints of one class, twenty answers a second; errors of what was predicted."""

    def __init__(self, *, endpoints=8, profile="h100-llama-8b", classes=("any",)):
        self.clock = HandClock()
        self.model = LatencyModel(self.clock, 7, READS, LEAST)
        self.replicas = Replicas(profile)
        self.endpoints = endpoints
        self.turn = 0
        for slot in range(endpoints):
            self.model.assign(slot, classes[slot % len(classes)])

    def predicted(self, slot, features):
        return self.model.predict(features[:, None], np.array([slot]))[:, 0]

    def answers(self, count, speed=lambda slot: 1.0, dead=None):
        """The mean errors (first token, further ones) of the last 100 of sound endpoints."""
        dead, errors = dead or {}, []
        for _ in range(count):
            self.clock.tick(0.05)
            self.turn += 1
            slot = self.turn % self.endpoints
            answer = self.replicas.answer(speed(slot))
            said = self.predicted(slot, answer.features)
            seen = dead.get(slot, (answer.ttft, answer.tpot))
            for target in (TTFT, TPOT):
                self.model.learn(target, slot, answer.features, said[target], seen[target])
            if slot not in dead:
                truth = np.array([answer.ttft, answer.tpot])
                errors.append(np.abs(said - truth) / truth)
        return np.mean(errors[-100:], axis=0)

    def errors_now(self, slot, speed=1.0):
        """Mean errors of what is predicted for one endpoint, without learning."""
        found = []
        for _ in range(60):
            answer = self.replicas.answer(speed)
            seen = (answer.ttft, answer.tpot)
            found.append(np.abs(self.predicted(slot, answer.features) - seen) / seen)
        return np.mean(found, axis=0)


@pytest.mark.parametrize("profile", ["h100-llama-8b", "a100-llama-8b", "l40s-llama-8b"])
def test_after_two_hundred_answers_the_error_is_below_a_tenth(profile):
    world = World(profile=profile)
    world.answers(200)

    assert (world.answers(200) < 0.1).all()


def test_before_enough_answers_nothing_is_said():
    world = World()
    world.answers(LEAST - 8)

    assert np.isnan(world.predicted(0, world.replicas.answer().features)).all()


def test_one_slow_endpoint_is_told_from_its_like():
    world = World()
    world.answers(200)
    errors = world.answers(500, speed=lambda slot: 0.5 if slot == 3 else 1.0)

    assert (errors < 0.1).all()
    assert world.errors_now(3, speed=0.5)[TPOT] < 0.1
    assert (world.errors_now(4) < 0.1).all()


@pytest.mark.parametrize(("speed", "most"), [(0.5, 0.15), (2.0, 0.15), (0.125, 0.25)])
def test_a_change_of_everything_is_followed(speed, most):
    world = World()
    world.answers(200)
    world.answers(600, speed=lambda slot: speed)

    assert (world.answers(200, speed=lambda slot: speed) < most).all()


def test_after_a_change_a_new_endpoint_is_expected_to_be_as_its_class():
    world = World()
    world.answers(200)
    world.answers(800, speed=lambda slot: 0.125)
    world.model.assign(99, "any")

    assert (world.errors_now(99, speed=0.125) < 0.3).all()


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param((0.0005, 0.00001), id="answers-at-once"),
        pytest.param((600.0, 30.0), id="hangs"),
        pytest.param((math.nan, -1.0), id="no-times"),
        pytest.param((math.inf, 1e9), id="beyond-all-times"),
    ],
)
def test_a_dead_endpoints_nonsense_spoils_nothing_for_others(nonsense):
    world = World()
    world.answers(200)
    errors = world.answers(800, dead={3: nonsense})

    assert (errors < 0.1).all()
    world.model.assign(99, "any")
    assert (world.errors_now(99) < 0.15).all()


def test_nonsense_from_the_very_first_answer_on_spoils_nothing_for_others():
    world = World()

    assert (world.answers(1200, dead={3: (0.0005, 0.00001)}) < 0.15).all()


def test_an_endpoint_that_was_slow_is_believed_again_after_a_while():
    world = World()
    world.answers(200)
    world.answers(400, speed=lambda slot: 0.2 if slot == 3 else 1.0)
    before = world.errors_now(3)[TPOT]
    for _ in range(600):
        world.clock.tick(1.0)
        world.predicted(3, world.replicas.answer().features)

    assert before > 1.0
    assert world.errors_now(3)[TPOT] < 0.1


def test_classes_know_nothing_of_each_other():
    world = World(classes=("fast", "slow"))
    world.answers(800, speed=lambda slot: 0.25 if slot % 2 else 1.0)

    fast, slow = world.model.classes
    # Of the fit's pace alone: neither class had to be corrected by its endpoints' factors.
    ratio = slow.lines[TPOT].fit.coefficients[0] / fast.lines[TPOT].fit.coefficients[0]
    assert ratio == pytest.approx(4.0, rel=0.2)


def test_one_class_may_be_ready_while_another_is_not():
    world = World(classes=("old", "new"))
    for _ in range(100):
        answer = world.replicas.answer()
        world.model.learn(TTFT, 0, answer.features, math.nan, answer.ttft)
    features = np.stack([answer.features] * 2, axis=1)
    said = world.model.predict(features, np.array([0, 1]))

    assert np.isnan(said).tolist() == [[False, True], [True, True]]


def test_a_slots_next_owner_starts_as_its_class_is():
    world = World()
    world.answers(200)
    world.answers(400, speed=lambda slot: 0.2 if slot == 3 else 1.0)
    world.model.on_removed(3)
    world.model.assign(3, "any")

    assert (world.errors_now(3) < 0.15).all()


def test_answers_of_a_slot_nobody_assigned_are_ignored():
    world = World(endpoints=2)
    answer = world.replicas.answer()
    world.model.learn(TTFT, 70, answer.features, math.nan, 1.0)
    world.model.learn(TTFT, 7000, answer.features, math.nan, 1.0)

    assert [one.lines[TTFT].fit.samples for one in world.model.classes] == [0]


def test_classes_are_bounded():
    world = World(endpoints=0)
    for number in range(MOST_CLASSES + 50):
        world.model.assign(number, f"class {number}")

    assert len(list(world.model.classes)) == MOST_CLASSES + 1


def test_errors_are_counted_of_predictions_alone():
    world = World()
    world.answers(200)
    (one,) = world.model.classes
    errors = one.lines[TTFT].errors

    assert 200 - LEAST - 8 <= errors.spread.count <= 200 - LEAST
    assert errors.recent < 0.2
