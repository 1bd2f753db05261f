"""The order of batches: repeats, gaps, restarts, replays, and any story of them."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.kvevents.sequence import Apply, Ask, Reset, Sequence, Timing
from epp.kvevents.stats import Counts

TIMING = Timing(grace=0.1, probe=5.0, retry=30.0)


def sequence(*, replays=False, counts=None):
    return Sequence(replays=replays, counts=counts or Counts(), timing=TIMING)


def payload(seq, engine="e"):
    return f"{engine}{seq}".encode()


def applied(steps):
    return [step.payload.decode() for step in steps if isinstance(step, Apply)]


def fed(it, *seqs, engine="e", now=0.0):
    """What comes of batches with these numbers, one after another."""
    return [step for seq in seqs for step in it.received(seq, payload(seq, engine), now)]


def replay(it, *seqs, engine="e", now=0.0):
    """A whole replay with these numbers, as the engine sends it."""
    steps = [step for seq in seqs for step in it.replayed(seq, payload(seq, engine), now)]
    return [*steps, *it.replay_ended(now)]


def test_batches_in_order_are_applied():
    it = sequence()

    assert applied(fed(it, 0, 1, 2)) == ["e0", "e1", "e2"]
    assert it.live


def test_a_picker_that_comes_late_starts_where_it_comes_in():
    it = sequence()

    assert fed(it, 41, 42) == [Apply(b"e41"), Apply(b"e42")]


def test_a_repeat_is_applied_once():
    counts = Counts()
    it = sequence(counts=counts)

    assert applied(fed(it, 0, 0, 1, 0, 1, 2)) == ["e0", "e1", "e2"]
    assert (counts.repeated, counts.restarts) == (3, 0)


def test_batches_that_changed_places_are_put_in_order():
    it = sequence()

    assert applied(fed(it, 0, 2, 1, 4, 3)) == ["e0", "e1", "e2", "e3", "e4"]
    assert it.live


def test_a_batch_that_never_comes_empties_the_endpoint():
    it = sequence()
    fed(it, 0, 2)

    assert not it.live
    assert it.due == 0.1
    assert it.tick(0.2) == [Reset("gap"), Apply(b"e2")]
    assert it.live
    assert it.due == inf


def test_an_engine_that_starts_again_is_noticed_by_its_number():
    it = sequence()
    fed(it, 0, 1, 2)

    assert fed(it, 0, engine="f") == [Reset("restart"), Apply(b"f0")]
    assert applied(fed(it, 1, engine="f")) == ["f1"]


def test_a_link_that_comes_back_empties_the_endpoint():
    it = sequence()
    first = it.linked(0.0)
    fed(it, 0, 1)

    assert first == []
    assert it.linked(1.0) == [Reset("link")]
    assert applied(fed(it, 2)) == ["e2"]


# -- with replay ----------------------------------------------------------------------------------


def test_the_first_link_asks_for_everything():
    it = sequence(replays=True)

    assert it.linked(0.0) == [Ask(0)]
    assert applied(replay(it, 3, 4, 5)) == ["e3", "e4", "e5"]
    assert it.live


def test_an_engine_that_has_said_nothing_is_known_to_hold_nothing():
    it = sequence(replays=True)
    it.linked(0.0)

    assert replay(it) == []
    assert it.live
    assert applied(fed(it, 0)) == ["e0"]


def test_what_arrives_during_a_replay_is_applied_after_it():
    it = sequence(replays=True)
    it.linked(0.0)
    during = fed(it, 2, 3)

    assert during == []
    assert applied(replay(it, 0, 1, 2)) == ["e0", "e1", "e2", "e3"]


def following(*seqs, counts=None):
    """A sequence that replays, linked, with these batches behind it."""
    it = sequence(replays=True, counts=counts)
    it.linked(0.0)
    replay(it, *seqs)
    return it


def test_a_gap_is_closed_by_a_replay():
    counts = Counts()
    it = following(0, 1, counts=counts)
    fed(it, 4)

    assert it.tick(0.2) == [Ask(1)]
    assert applied(replay(it, 1, 2, 3, 4)) == ["e2", "e3", "e4"]
    assert it.live
    assert (counts.gaps, counts.restarts) == (1, 0)


def test_a_replay_that_comes_too_late_starts_the_endpoint_afresh():
    it = following(0, 1)
    fed(it, 9)
    it.tick(0.2)

    assert replay(it, 7, 8, 9) == [Reset("gap"), Apply(b"e7"), Apply(b"e8"), Apply(b"e9")]


def test_a_quiet_engine_is_asked_whether_its_last_batches_were_lost():
    it = following(0, 1)

    assert it.due == 5.0
    assert it.tick(5.0) == [Ask(1)]
    assert applied(replay(it, 1, 2, now=5.1)) == ["e2"]
    assert it.due == 10.1


def test_after_a_cut_the_same_engine_goes_on():
    it = following(0, 1)

    assert it.linked(1.0) == [Ask(1)]
    assert applied(replay(it, 1, 2)) == ["e2"]


def test_after_a_cut_an_engine_whose_count_is_lower_is_another_one():
    it = following(0, 1, 2)
    it.linked(1.0)

    assert it.replay_ended(1.0) == [Reset("restart"), Ask(0)]
    assert applied(replay(it, 0, 1, engine="f")) == ["f0", "f1"]
    assert it.live


def test_after_a_cut_an_engine_whose_count_is_as_high_is_told_by_its_bytes():
    it = following(0, 1, 2)
    it.linked(1.0)
    first = [step for seq in (2, 3) for step in it.replayed(seq, payload(seq, "f"), 1.0)]

    assert first == [Reset("restart")]
    assert it.replay_ended(1.0) == [Ask(0)]
    assert applied(replay(it, 0, 1, 2, 3, engine="f")) == ["f0", "f1", "f2", "f3"]


def test_a_restart_in_mid_count_is_replayed_from_its_start():
    it = following(0, 1, 2)

    assert fed(it, 1, engine="f") == [Reset("restart"), Ask(0)]
    assert applied(replay(it, 0, 1, engine="f")) == ["f0", "f1"]


def test_without_an_answer_a_gap_empties_the_endpoint():
    it = following(0, 1)
    fed(it, 4)
    it.tick(0.2)

    assert it.replay_failed(1.0) == [Reset("gap"), Apply(b"e4")]
    assert it.live


def test_without_an_answer_a_link_that_came_back_empties_the_endpoint():
    it = following(0, 1)
    it.linked(1.0)

    assert it.replay_failed(2.0) == [Reset("gap")]


def test_while_replays_fail_gaps_do_not_wait_for_them():
    it = following(0, 1)
    it.linked(1.0)
    it.replay_failed(2.0)
    fed(it, 5, 7, now=3.0)

    assert it.tick(3.2) == [Reset("gap"), Apply(b"e7")]


def test_replays_that_close_no_gap_are_given_up():
    it = following(0, 1)
    fed(it, 9)
    steps = []
    for now in range(1, 6):
        asked = it.tick(now)
        steps += asked
        if it.asking:
            steps += replay(it, *range(asked[-1].first, 3), now=now)

    assert [step for step in steps if isinstance(step, Ask)] == [Ask(1), Ask(2), Ask(2)]
    assert steps[-2:] == [Reset("gap"), Apply(b"e9")]


def test_a_link_that_breaks_during_a_replay_asks_again():
    it = sequence(replays=True)
    it.linked(0.0)
    it.replayed(0, payload(0), 0.0)
    it.linked(0.5)

    assert it.replay_ended(1.0) == [Ask(0)]


# -- snapshots ------------------------------------------------------------------------------------


def restored(*, replays):
    old = sequence()
    fed(old, 0, 1, 2)
    it = sequence(replays=replays)
    it.restore(old.next, old.last_digest)
    return it


def test_a_snapshot_goes_on_with_the_next_batch():
    it = restored(replays=False)

    assert it.linked(0.0) == []
    assert applied(fed(it, 3)) == ["e3"]


def test_a_snapshot_with_a_gap_is_not_believed():
    it = restored(replays=False)
    it.linked(0.0)
    fed(it, 5)

    assert it.tick(1.0) == [Reset("gap"), Apply(b"e5")]


def test_a_snapshot_is_checked_against_the_engine():
    it = restored(replays=True)

    assert it.linked(0.0) == [Ask(2)]
    assert applied(replay(it, 2, 3, 4)) == ["e3", "e4"]


@pytest.mark.parametrize("seqs", [(2, 3), ()], ids=["other-bytes", "lower-count"])
def test_a_snapshot_of_an_engine_that_was_exchanged_is_not_believed(seqs):
    it = restored(replays=True)
    it.linked(0.0)
    steps = replay(it, *seqs, engine="f")

    assert steps == [Reset("restart"), Ask(0)]


# -- any story ------------------------------------------------------------------------------------


class Engine:
    """Publishes numbered batches over a bad link; restarts; replays its last ones."""

    def __init__(self, *, buffer):
        self.life = 0
        self.said = []
        self.buffer = buffer

    def batch(self, seq):
        return f"{self.life}/{seq}".encode()

    def publish(self):
        self.said.append(self.batch(len(self.said)))
        return len(self.said) - 1, self.said[-1]

    def restart(self):
        self.life += 1
        self.said = []

    def replay(self, first):
        start = max(first, len(self.said) - self.buffer)
        return [(seq, self.said[seq]) for seq in range(start, len(self.said))]


class Picker:
    """Does what a sequence says; `known` are the batches applied since the last reset."""

    def __init__(self, engine, *, replays):
        self.counts = Counts()
        self.it = sequence(replays=replays, counts=self.counts)
        self.engine = engine
        self.known = []
        self.now = 0.0
        self.do(self.it.linked(self.now))

    def do(self, steps):
        for step in steps:
            if isinstance(step, Apply):
                self.known.append(step.payload)
            elif isinstance(step, Reset):
                self.known.clear()
            else:
                for seq, said in self.engine.replay(step.first):
                    self.do(self.it.replayed(seq, said, self.now))
                self.do(self.it.replay_ended(self.now))

    def hear(self, seq, said):
        self.do(self.it.received(seq, said, self.now))

    def wait(self, seconds):
        self.now += seconds
        for _ in range(4):
            self.do(self.it.tick(self.now))

    def linked(self):
        self.do(self.it.linked(self.now))


moves = st.lists(
    st.sampled_from(["publish", "publish", "publish", "lose", "repeat", "swap", "restart", "wait"]),
    max_size=40,
)


@settings(max_examples=300)
@given(moves, st.booleans(), st.integers(1, 8))
def test_after_any_story_what_is_known_is_an_unbroken_end_of_what_was_said(story, replays, buffer):
    engine = Engine(buffer=buffer)
    picker = Picker(engine, replays=replays)
    late = None
    for move in story:
        if move == "restart":
            engine.restart()
            late = None
            picker.linked()
        elif move == "wait":
            picker.wait(0.2)
        else:
            told = engine.publish()
            if move == "swap" and late is None:
                late = told
                continue
            if move != "lose":
                picker.hear(*told)
            if move == "repeat":
                picker.hear(*told)
            if late is not None:
                picker.hear(*late)
                late = None
    picker.hear(*engine.publish())
    for _ in range(story.count("lose") + 2):
        picker.wait(0.2)
    picker.wait(6.0)

    assert picker.known == engine.said[-len(picker.known) :]
    assert picker.known
    assert picker.it.live
    assert not picker.it._held


@settings(max_examples=200)
@given(moves, st.integers(4, 8))
def test_with_replay_everything_the_engine_still_has_is_known(story, buffer):
    engine = Engine(buffer=buffer)
    picker = Picker(engine, replays=True)
    for move in story:
        if move == "restart":
            engine.restart()
            picker.linked()
        elif move == "wait":
            picker.wait(0.2)
        else:
            told = engine.publish()
            if move != "lose":
                picker.hear(*told)
    picker.wait(6.0)

    assert picker.known[-buffer:] == engine.said[-buffer:]
