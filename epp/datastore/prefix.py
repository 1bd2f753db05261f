"""The approximate prefix index: which blocks of which prompts each endpoint probably still holds.

It learns from our own picks alone, so it is a guess; `block_keys` of `epp.tokens` name the blocks.

Every key maps to one integer whose bit `s` says that the endpoint in slot `s` holds the block. Each
endpoint has its blocks in order of use. A use renews a chain from its last block to its first, so
a block is always younger than all that hang from it: the oldest is a leaf, and taking the oldest
away never cuts a prefix. From that follows that the holders of a chain only get fewer along it,
and `match` may search by halves instead of asking key by key.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import islice
from math import inf
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from epp.domain.pool import Ints, Mask

DEFAULT_MAX_BLOCKS: Final = 1_000_000
SHARDS: Final = 256
"""A power of two. One dict of a million keys stops the loop for 40 ms and more when it grows."""
LOW: Final = SHARDS - 1
FEW: Final = 24
"""Up to so many endpoints bits are tried one by one: 4 us for 10 of them, 10 by way of numpy."""

Used: TypeAlias = dict[int, float]
"""Keys in order of use, the longest unused first, each with the time of its last use."""


class Run(NamedTuple):
    """The endpoints in bit mask `holders` hold exactly the first `blocks` blocks of a chain."""

    holders: int
    blocks: int


class PrefixIndex:
    """Blocks by endpoint slot. Bounded for each endpoint, and by `max_blocks` for all together.

    A block held by two endpoints counts twice. Slots are small and may be used again after
    `clear`; hundreds are fine, for masks are Python integers.
    """

    def __init__(self, max_blocks: int = DEFAULT_MAX_BLOCKS) -> None:
        self.max_blocks = max_blocks
        self._holders: tuple[dict[int, int], ...] = tuple({} for _ in range(SHARDS))
        self._used: dict[int, Used] = {}
        self._count = 0

    def __len__(self) -> int:
        """Blocks held, counted once for each endpoint that holds them."""
        return self._count

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots that hold at least one block."""
        return tuple(self._used)

    def held(self, slot: int) -> int:
        """Blocks of one endpoint."""
        return len(self._used.get(slot, ()))

    def holders(self, key: int) -> int:
        """Bit mask of the endpoints that hold one block."""
        return self._holders[key & LOW].get(key, 0)

    def match(self, keys: Sequence[int]) -> list[Run]:
        """Who holds how much of the chain `keys`: disjoint masks, shortest prefix first.

        Endpoints that hold nothing of it are in no run.
        """
        end = len(keys)
        runs: list[Run] = []
        at, mask = 0, self.holders(keys[0]) if keys else 0
        while mask:
            following = self._last_held_by(mask, keys, at) + 1
            rest = self.holders(keys[following]) if following < end else 0
            runs.append(Run(mask & ~rest, following))
            at, mask = following, rest
        return runs

    def _last_held_by(self, mask: int, keys: Sequence[int], low: int) -> int:
        """The last position whose holders are still all of `mask`; those of `low` are."""
        high = len(keys) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.holders(keys[middle]) & mask == mask:
                low = middle
            else:
                high = middle - 1
        return low

    def used_since(self, slot: int, keys: Sequence[int], time: float) -> int:
        """How many leading blocks of `keys` the endpoint in `slot` was given at `time` or later.

        A block was last used no sooner than those that hang from it, so halves are enough.
        """
        used = self._used.get(slot, {})
        return bisect_left(keys, True, key=lambda key: used.get(key, -inf) < time)

    def insert(self, slot: int, keys: Sequence[int], capacity: int, now: float = 0.0) -> None:
        """The endpoint in `slot` computes the chain `keys`; it has room for `capacity` blocks.

        Of a chain longer than the room the beginning is kept. What no longer fits goes, the longest
        unused first.
        """
        room = min(capacity, self.max_blocks)
        if room < 1 or not keys:
            return
        used = self._used.get(slot)
        if used is None:
            used = self._used[slot] = {}
        before = len(used)
        self._renew(used, 1 << slot, keys[:room], now)
        self._count += len(used) - before
        self._drop_oldest(slot, len(used) - room)
        self._shrink()

    def _renew(self, used: Used, bit: int, keys: Sequence[int], now: float) -> None:
        shards = self._holders
        # Neighbours mostly have the same holders: one integer for all of them instead of one for
        # each block: 68 MB instead of 102 at a million blocks of a hundred endpoints.
        before, after = 0, bit
        for key in reversed(keys):
            holders = shards[key & LOW]
            mask = holders.get(key, 0)
            if mask & bit:
                del used[key]
            else:
                if mask != before:
                    before, after = mask, mask | bit
                holders[key] = after
            used[key] = now

    def clear(self, slot: int) -> None:
        """Forget one endpoint: costs its own blocks, not the index."""
        self._drop_oldest(slot, self.held(slot))

    def on_removed(self, slot: int) -> None:
        """The endpoint has gone; its slot may be given to another."""
        self.clear(slot)

    def _shrink(self) -> None:
        """Over the bound for all, the endpoint that holds most gives up its oldest."""
        while self._count > self.max_blocks:
            fullest = max(self._used, key=lambda slot: len(self._used[slot]))
            excess = self._count - self.max_blocks
            self._drop_oldest(fullest, min(excess, max(self.held(fullest) // 2, 1)))

    def _drop_oldest(self, slot: int, blocks: int) -> None:
        if blocks <= 0:
            return
        used, shards, keep = self._used[slot], self._holders, ~(1 << slot)
        # One walk for all: the front of a dict is dear to reach after many removals. An
        # OrderedDict would do it key by key, for 75 MB more at a million blocks.
        for key in list(islice(used, blocks)):
            del used[key]
            holders = shards[key & LOW]
            if rest := holders[key] & keep:
                holders[key] = rest
            else:
                del holders[key]
        self._count -= blocks
        if not used:
            del self._used[slot]


def spread(runs: Iterable[tuple[int, int]], slots: Ints) -> Ints:
    """The blocks of disjoint runs, `(holders, blocks)`, at each of `slots`; shape `(n,)`."""
    if len(slots) > FEW:
        blocks = np.zeros(len(slots), np.int64)
        for holders, count in runs:
            blocks[among(holders, slots)] = count
        return blocks
    held = [0] * len(slots)
    places = slots.tolist()
    for holders, count in runs:
        for row, slot in enumerate(places):
            if holders >> slot & 1:
                held[row] = count
    return np.array(held, np.int64)


def among(holders: int, slots: Ints) -> Mask:
    """Which of `slots` have their bit set in `holders`; bool, shape `(n,)`."""
    if not len(slots):
        return np.zeros(0, dtype=np.bool_)
    # 3 us for 1,000 slots; shifting the integer once for each takes 90 us.
    width = int(slots.max()) // 8 + 1
    low = holders & ((1 << 8 * width) - 1)
    bits = np.unpackbits(np.frombuffer(low.to_bytes(width, "little"), np.uint8), bitorder="little")
    return bits[slots].view(np.bool_)
