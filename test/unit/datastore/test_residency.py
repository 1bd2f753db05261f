"""The residency index, alone and against a slow model of what it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.datastore.residency import Residency, thinned

SLOTS = np.arange(5)
SIZE = 64
"""Blocks of this many tokens are all kept among the expectations."""


def chain(path):
    """Our keys of a path through a tree: a key names the whole way to it."""
    return [hash((path[:depth], "ours")) & (2**64 - 1) for depth in range(1, len(path) + 1)]


def names(path, salt="engine"):
    """The engine's hashes of the same blocks."""
    return [hash((path[:depth], salt)) & (2**64 - 1) for depth in range(1, len(path) + 1)]


def store(index, slot, path, *, start=0, fast=True):
    index.stored(slot, names(path)[start:], chain(path)[start:], fast=fast)


def matched(index, path, now=0.0, slots=SLOTS):
    return index.match(chain(path), SIZE, slots, now)


def test_nothing_is_held_at_first():
    assert matched(Residency(), "abc").any.tolist() == [0, 0, 0, 0, 0]


def test_a_prompt_without_a_full_block_matches_nowhere():
    index = Residency()
    store(index, 0, "abc")

    assert index.match([], SIZE, SLOTS, 0.0).any.tolist() == [0] * 5


def test_each_endpoint_matches_as_far_as_it_holds():
    index = Residency()
    store(index, 0, "ab")
    store(index, 3, "abcd")
    store(index, 4, "x")

    assert matched(index, "abcde").fast.tolist() == [2, 0, 0, 4, 0]


@pytest.mark.parametrize("size", [5, 100, 1000], ids="{}-endpoints".format)
def test_endpoints_match_alike_in_pools_of_any_size(size):
    index, last = Residency(), size - 1
    store(index, last, "abcd")
    store(index, 2, "ab")
    store(index, 2, "abc", start=2, fast=False)
    index.expect(1, thinned(chain("abcdef"), SIZE), 100, now=0.0)

    found = matched(index, "abcdef", slots=np.arange(size))

    assert {row: found.fast[row] for row in (0, 1, 2, last)} == {0: 0, 1: 0, 2: 2, last: 4}
    assert found.any[[1, 2, last]].tolist() == [0, 3, 4]
    assert found.expected[[0, 1, 2, last]].tolist() == [0, 6, 0, 0]


def test_slots_never_heard_of_hold_nothing():
    index = Residency()
    store(index, 0, "ab")

    assert matched(index, "ab", slots=np.array([7000, 0])).any.tolist() == [0, 2]


def test_a_hole_ends_the_match_and_heals():
    index = Residency()
    store(index, 1, "abcd")
    index.removed(1, names("ab")[1:], fast=True)
    cut = matched(index, "abcd").any.tolist()
    store(index, 1, "ab", start=1)

    assert cut == [0, 1, 0, 0, 0]
    assert matched(index, "abcd").any.tolist() == [0, 4, 0, 0, 0]


def test_a_block_stored_twice_is_removed_twice():
    index = Residency()
    store(index, 0, "a")
    store(index, 0, "a")
    index.removed(0, names("a"), fast=True)
    once = index.held(0)
    index.removed(0, names("a"), fast=True)

    assert (once, index.held(0)) == (1, 0)


def test_blocks_the_engine_keeps_apart_are_one_until_the_last_is_removed():
    """As with adapters that events do not name, or tokens that come with the one ahead."""
    index = Residency()
    for engine in ("base", "adapter"):
        index.stored(0, names("ab", engine), chain("ab"), fast=True)
    index.removed(0, names("ab", "base"), fast=True)
    one_left = matched(index, "ab").any[0]
    index.removed(0, names("ab", "adapter"), fast=True)

    assert (one_left, matched(index, "ab").any[0]) == (2, 0)


def test_a_block_in_slow_memory_counts_but_not_as_fast():
    index = Residency()
    store(index, 0, "ab")
    store(index, 0, "abcd", start=1, fast=False)
    found = matched(index, "abcde")

    assert (found.fast[0], found.any[0]) == (2, 4)


def test_leaving_one_tier_leaves_the_other():
    index = Residency()
    store(index, 0, "ab")
    store(index, 0, "ab", fast=False)
    index.removed(0, names("ab"), fast=True)
    found = matched(index, "ab")

    assert (found.fast[0], found.any[0]) == (0, 2)


def test_a_parent_is_known_in_any_tier():
    index = Residency()
    store(index, 0, "a", fast=False)

    assert index.key_of(0, names("a")[0]) == chain("a")[0]
    assert index.key_of(0, names("b")[0]) is None
    assert index.key_of(1, names("a")[0]) is None


def test_forgetting_an_endpoint_takes_no_walk_and_leaves_the_others():
    index = Residency()
    store(index, 0, "abc")
    store(index, 1, "abc")
    index.forget(0)

    assert len(index) == 6
    assert matched(index, "abc").any.tolist() == [0, 3, 0, 0, 0]


def test_what_was_forgotten_is_swept_piece_by_piece():
    index = Residency()
    store(index, 0, "abcdefgh")
    index.forget(0)

    assert [index.sweep(3), index.sweep(3), index.sweep(3), index.sweep(3)] == [3, 3, 2, 0]
    assert len(index) == 0
    assert index.fast.holders.of(chain("a")[0]) == 0


def test_an_endpoint_starts_afresh_before_its_past_is_swept():
    index = Residency()
    store(index, 0, "abc")
    index.forget(0)
    store(index, 0, "a")

    assert matched(index, "abc").any[0] == 1


def test_another_block_size_starts_afresh():
    index = Residency()
    index.set_block_tokens(0, 16)
    store(index, 0, "abc")
    index.set_block_tokens(0, 32)

    assert matched(index, "abc").any[0] == 0
    assert index.block_sizes == (32,)


def test_an_empty_cache_voids_what_was_expected_of_it():
    index = Residency()
    store(index, 0, "abc")
    index.expect(0, chain("abcd"), 100, 0.0)
    index.forget(0)
    forgotten = matched(index, "abcd").expected[0]
    index.emptied(0)

    assert (forgotten, matched(index, "abcd").expected[0]) == (4, 0)


def test_an_endpoint_that_has_gone_leaves_nothing_to_its_slot():
    index = Residency()
    index.set_live(0, True)
    store(index, 0, "abc")
    index.expect(0, chain("abc"), 100, 0.0)
    index.on_removed(0)
    found = matched(index, "abc")

    assert (found.any[0], found.expected[0], index.live) == (0, 0, frozenset())


# -- expectations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "waited", "blocks"),
    [(True, 1.0, 3), (True, 3.0, 0), (False, 3.0, 3), (False, 1e6, 3)],
    ids=["just-picked", "events-should-have-come", "no-events", "no-events-for-long"],
)
def test_a_pick_counts_until_events_should_have_come(live, waited, blocks):
    index = Residency(expect_seconds=2.0)
    index.set_live(2, live)
    index.expect(2, chain("abc"), 100, now=10.0)

    assert matched(index, "abcd", now=10.0 + waited).expected.tolist() == [0, 0, blocks, 0, 0]


def test_of_an_old_chain_the_part_picked_again_counts():
    index = Residency(expect_seconds=2.0)
    index.set_live(0, True)
    index.expect(0, chain("abcd"), 100, now=10.0)
    index.expect(0, chain("ab"), 100, now=20.0)

    assert matched(index, "abcd", now=21.0).expected[0] == 2


def test_expectations_are_kept_for_every_64_tokens():
    index = Residency()
    keys = chain("abcdefghij")
    index.expect(0, thinned(keys, 16), 100, now=0.0)

    assert len(index.picks) == 2
    assert index.match(keys, 16, SLOTS, 0.0).expected[0] == 8


# -- room ------------------------------------------------------------------------------------------


def test_all_endpoints_together_stay_under_the_bound():
    index = Residency(max_blocks=10)
    for slot in range(5):
        store(index, slot, f"{slot}abcdef")

    assert len(index) == 10
    assert index.dropped == 25


def test_for_want_of_room_the_leaves_go():
    index = Residency(max_blocks=4)
    store(index, 0, "abcdef")

    assert matched(index, "abcdef").any[0] == 4


def test_what_was_forgotten_goes_before_what_is_known():
    index = Residency(max_blocks=6)
    store(index, 0, "abcd")
    index.forget(0)
    store(index, 1, "abcdef")

    assert matched(index, "abcdef").any[1] == 6
    assert index.dropped == 0


# -- against a slow model --------------------------------------------------------------------------


class SlowModel:
    """For each endpoint and tier the blocks it holds, and how often."""

    def __init__(self):
        self.blocks = {}

    def _tier(self, slot, fast):
        return self.blocks.setdefault((slot, fast), {})

    def stored(self, slot, path, start, fast):
        tier = self._tier(slot, fast)
        for depth in range(start + 1, len(path) + 1):
            tier[path[:depth]] = tier.get(path[:depth], 0) + 1

    def removed(self, slot, path, start, fast):
        tier = self._tier(slot, fast)
        if tier.get(path, 0) > 1:
            tier[path] -= 1
        else:
            tier.pop(path, None)

    def forget(self, slot, *_):
        self.blocks.pop((slot, True), None)
        self.blocks.pop((slot, False), None)

    def sweep(self, *_):
        pass

    def matched(self, slot, path, tiers):
        for depth in range(1, len(path) + 1):
            if not any(path[:depth] in self._tier(slot, fast) for fast in tiers):
                return depth - 1
        return len(path)


def tell(index, step, slot, path, start, fast):
    if step == "stored":
        store(index, slot, path, start=start, fast=fast)
    elif step == "removed":
        index.removed(slot, names(path)[-1:], fast=fast)
    elif step == "forget":
        index.forget(slot)
    else:
        index.sweep(2)


paths = st.text(alphabet="ab", min_size=1, max_size=6)
steps = st.tuples(
    st.sampled_from(["stored", "stored", "removed", "removed", "forget", "sweep"]),
    st.integers(0, 4),
    paths,
    st.integers(0, 3),
    st.booleans(),
)


@settings(max_examples=200)
@given(st.lists(steps, max_size=50), paths)
def test_agrees_with_the_slow_model(story, asked):
    index, model = Residency(), SlowModel()
    for step, *arguments in story:
        getattr(model, step)(*arguments)
        tell(index, step, *arguments)
    found = matched(index, asked)

    for slot in range(5):
        assert found.fast[slot] == model.matched(slot, asked, [True])
        assert found.any[slot] == model.matched(slot, asked, [True, False])


@settings(max_examples=100)
@given(st.lists(steps, max_size=50), st.integers(1, 12))
def test_never_over_the_bound_never_more_than_is_true_and_nothing_left_over(story, bound):
    index, model = Residency(max_blocks=bound), SlowModel()
    for step, *arguments in story:
        getattr(model, step)(*arguments)
        tell(index, step, *arguments)

        assert len(index) <= bound
    for slot in range(5):
        path = "ab" * 3
        assert matched(index, path).any[slot] <= model.matched(slot, path, [True, False])
        index.forget(slot)
    while index.sweep(7):
        pass

    assert len(index) == 0
    assert len(index.fast.holders) + len(index.slow.holders) == 0


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "ab", "b"]), st.sampled_from("xyz")))
)
def test_what_has_many_names_is_held_as_long_as_one_of_them_is(story):
    index, held = Residency(), set()
    for stored, path, salt in story:
        name = names(path, salt)[-1:]
        if stored and (path, salt) not in held:
            index.stored(0, name, chain(path)[-1:], fast=True)
            held.add((path, salt))
        elif not stored:
            index.removed(0, name, fast=True)
            held.discard((path, salt))

    for path in ("a", "ab", "b"):
        assert bool(index.fast.holders.of(chain(path)[-1])) == any(p == path for p, _ in held)
    assert index.held(0) == len(held)
