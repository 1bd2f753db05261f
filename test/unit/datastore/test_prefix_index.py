"""The approximate prefix index, alone and against a slow model of what it promises."""

from hypothesis import given, settings
from hypothesis import strategies as st

from epp.datastore.prefix import PrefixIndex, Run


def chain(path):
    """Keys of a path through a tree: a key names the whole way to it."""
    return [hash((path[:depth], "block")) & (2**64 - 1) for depth in range(1, len(path) + 1)]


def blocks_held(index, slot, keys):
    """What `match` says of one endpoint."""
    return next((run.blocks for run in index.match(keys) if run.holders >> slot & 1), 0)


def test_nothing_is_known_of_an_empty_index():
    assert PrefixIndex().match(chain("abc")) == []


def test_a_prompt_without_a_full_block_matches_nothing():
    index = PrefixIndex()
    index.insert(0, chain("abc"), capacity=8)

    assert index.match([]) == []


def test_runs_are_disjoint_and_shortest_first():
    index = PrefixIndex()
    index.insert(0, chain("ab"), capacity=8)
    index.insert(1, chain("abcd"), capacity=8)
    index.insert(70, chain("abcd"), capacity=8)

    assert index.match(chain("abcde")) == [Run(1 << 0, 2), Run(1 << 1 | 1 << 70, 4)]


def test_a_leaf_goes_before_its_root():
    index = PrefixIndex()
    index.insert(0, chain("rootAB"), capacity=6)
    index.insert(0, chain("x"), capacity=6)

    assert blocks_held(index, 0, chain("rootAB")) == 5


def test_a_chain_longer_than_the_room_keeps_its_beginning():
    index = PrefixIndex()
    index.insert(0, chain("abcdef"), capacity=4)

    assert blocks_held(index, 0, chain("abcdef")) == 4


def test_a_smaller_capacity_takes_effect_at_the_next_insert():
    index = PrefixIndex()
    index.insert(0, chain("abcdef"), capacity=8)
    index.insert(0, chain("xy"), capacity=3)

    assert index.held(0) == 3


def test_no_room_at_all_holds_nothing():
    index = PrefixIndex()
    index.insert(0, chain("ab"), capacity=0)

    assert len(index) == 0
    assert index.slots == ()


def test_clearing_one_endpoint_leaves_the_others():
    index = PrefixIndex()
    index.insert(0, chain("abc"), capacity=8)
    index.insert(1, chain("ab"), capacity=8)
    index.clear(0)

    assert index.match(chain("abc")) == [Run(1 << 1, 2)]
    assert len(index) == 2


def test_all_endpoints_together_stay_under_the_bound():
    index = PrefixIndex(max_blocks=10)
    for slot in range(8):
        index.insert(slot, chain(f"{slot}abcd"), capacity=100)

    assert len(index) == 10
    assert max(index.held(slot) for slot in range(8)) <= 5


class SlowModel:
    """The promise in its plainest form: each block has a time of use and a depth."""

    def __init__(self):
        self.now = 0
        self.blocks = {}

    def insert(self, slot, path, capacity):
        self.now += 1
        if capacity < 1:
            return
        mine = self.blocks.setdefault(slot, {})
        for depth in range(1, min(len(path), capacity) + 1):
            mine[path[:depth]] = self.now
        while len(mine) > capacity:
            del mine[min(mine, key=lambda prefix: (mine[prefix], -len(prefix)))]

    def clear(self, slot):
        self.blocks.pop(slot, None)

    def matched(self, slot, path):
        mine = self.blocks.get(slot, {})
        depths = range(1, len(path) + 1)
        return next((depth - 1 for depth in depths if path[:depth] not in mine), len(path))


paths = st.text(alphabet="ab", min_size=1, max_size=9)
slots = st.integers(0, 3)
steps = st.one_of(
    st.tuples(st.just("insert"), slots, paths, st.integers(0, 12)),
    st.tuples(st.just("clear"), slots),
)


@settings(max_examples=150)
@given(st.lists(steps, max_size=40), paths)
def test_agrees_with_the_slow_model(story, asked):
    index, model = PrefixIndex(), SlowModel()
    for name, *arguments in story:
        getattr(model, name)(*arguments)
        if name == "insert":
            slot, path, capacity = arguments
            arguments = [slot, chain(path), capacity]
        getattr(index, name)(*arguments)

    for slot in range(4):
        assert index.held(slot) == len(model.blocks.get(slot, {}))
        assert blocks_held(index, slot, chain(asked)) == model.matched(slot, asked)


@settings(max_examples=60)
@given(st.lists(st.tuples(slots, paths), max_size=40), st.integers(1, 12))
def test_never_over_the_bound_and_never_a_hole(story, bound):
    index = PrefixIndex(max_blocks=bound)
    for slot, path in story:
        index.insert(slot, chain(path), capacity=6)

        assert len(index) <= bound
        assert len(index) == sum(index.held(slot) for slot in range(4))
    for slot, path in story:
        keys = chain(path)
        found = [bool(index.holders(key) >> slot & 1) for key in keys]
        assert found == sorted(found, reverse=True)
