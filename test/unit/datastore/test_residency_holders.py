"""The flat table of holders against a dict, and the walk against a loop."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.datastore.residency_holders import Holders, walk

SIZE = 2048
CROWDED = [place + SIZE * turn for place in (0, 1, 2, SIZE - 1) for turn in range(6)]
"""Keys of which many want the same places, at the end of the table and at its begin."""
LANES = st.sampled_from([0, 1, 63, 64, 300])
STEPS = st.lists(st.tuples(st.booleans(), LANES, st.sampled_from(CROWDED)), max_size=120)


def built(steps):
    """A table and a dict that were told the same."""
    table, model = Holders(), {}
    for stores, lane, key in steps:
        if stores:
            table.mark([key], lane)
            model[key] = model.get(key, 0) | 1 << lane
        else:
            table.unmark(key, lane)
            if not (rest := model.get(key, 0) & ~(1 << lane)):
                model.pop(key, None)
            else:
                model[key] = rest
    return table, model


def slow_walk(holders, keys, mask):
    """Lanes of `mask` by how many leading keys they hold."""
    found = {}
    for lane in range(mask.bit_length()):
        held = 0
        while held < len(keys) and holders.get(keys[held], 0) & mask & 1 << lane:
            held += 1
        if held:
            found[held] = found.get(held, 0) | 1 << lane
    return sorted((lanes, held) for held, lanes in found.items())


@given(STEPS)
@settings(max_examples=150)
def test_it_says_what_a_dict_would_say_one_by_one_and_at_once(steps):
    table, model = built(steps)
    numbers = table.find(np.array(CROWDED, np.uint64))

    assert len(table) == len(model)
    assert [table.of(key) for key in CROWDED] == [model.get(key, 0) for key in CROWDED]
    assert [table.mask(n) for n in numbers] == [model.get(key, 0) for key in CROWDED]


@given(STEPS)
def test_masks_nobody_uses_are_forgotten(steps):
    table, model = built(steps)

    assert len(table._masks) == len(set(model.values()))


def test_it_grows_where_more_comes_than_was_expected():
    table = Holders()
    keys = [hash(("key", n)) & (2**64 - 1) for n in range(20 * SIZE)]
    for start in range(0, len(keys), 1500):
        table.mark(keys[start : start + 1500], 3)
    table.mark(keys[:5], 70)

    assert len(table) == len(keys)
    assert {table.of(key) for key in keys[5:]} == {1 << 3}
    assert table.of(keys[0]) == 1 << 3 | 1 << 70


@given(
    st.lists(st.tuples(LANES, st.integers(0, 700), st.integers(0, 700)), max_size=8),
    st.lists(st.tuples(LANES, st.integers(0, 700)), max_size=4),
    st.integers(0, 700),
)
@settings(max_examples=60)
def test_a_walk_finds_what_a_loop_finds_in_one_table_and_in_two(ranges, holes, length):
    chain = [hash(("chain", n)) & (2**64 - 1) for n in range(700)]
    one, other = Holders(), Holders()
    held, both = {}, {}
    for number, (lane, start, end) in enumerate(ranges):
        table = (one, other)[number % 2]
        table.mark(chain[start:end], lane)
        for key in chain[start:end]:
            both[key] = both.get(key, 0) | 1 << lane
            if table is one:
                held[key] = held.get(key, 0) | 1 << lane
    for lane, place in holes:
        for table, model in ((one, held), (other, {}), (one, both)):
            table.unmark(chain[place % 700], lane)
            model[chain[place % 700]] = model.get(chain[place % 700], 0) & ~(1 << lane)
    mask = 1 | 1 << 1 | 1 << 63 | 1 << 300
    keys = chain[:length]

    assert sorted(walk((one,), keys, mask)) == slow_walk(held, keys, mask)
    assert sorted(walk((one, other), keys, mask)) == slow_walk(both, keys, mask)


@given(STEPS, st.integers(2, 4))
@settings(max_examples=10)
def test_growing_changes_nothing_that_is_said(steps, turns):
    table, model = built(steps)
    others = [10**15 + n for n in range(SIZE * turns)]
    table.mark(others, 5)
    numbers = table.find(np.array(CROWDED, np.uint64))

    assert [table.mask(n) for n in numbers] == [model.get(key, 0) for key in CROWDED]
    assert len(table) == len(model) + len(others)


def test_room_for_many_is_not_taken_at_once():
    assert len(Holders(100_000_000)._keys) == 2**21
