"""The exact prefix index: which blocks each endpoint holds, as its engine says and as we expect.

Two layers. *Confirmed* is what an engine's events told (`Tier`, one for GPU memory, one for all
slower kinds). *Expected* is what our own picks will lead to: it counts for a short time where an
endpoint's events arrive, and for as long as its memory lasts where they do not.

All of it is in our own keys (`epp.tokens.blocks`), chained in blocks of the engine's size; how an
engine names a block matters only to find its parent and to remove it.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

import numpy as np

from epp.datastore.members import Slots
from epp.datastore.prefix import DEFAULT_MAX_BLOCKS, PrefixIndex, spread
from epp.datastore.residency_holders import Run, walk
from epp.datastore.residency_tier import Tier
from epp.domain.pool import Ints

EXPECT_TOKENS: Final = 64
"""Expectations are kept for every so many tokens: a quarter of the work of blocks of 16."""
MOST_ADAPTERS: Final = 4096
SWEPT_AT_ONCE: Final = 256


class Match(NamedTuple):
    """Leading blocks of one chain by endpoint, int arrays of shape `(n,)`. Not to be changed."""

    fast: Ints
    """In GPU memory."""
    any: Ints
    """In any tier; never fewer than `fast`, and the same array where there is no other tier."""
    expected: Ints
    """By our own picks; where these are no more than `any`, whatever they were."""


class Residency:
    """Who holds what. `max_blocks` bounds the confirmed blocks of all endpoints together."""

    def __init__(self, max_blocks: int = DEFAULT_MAX_BLOCKS, expect_seconds: float = 2.0) -> None:
        self.max_blocks = max_blocks
        self.expect_seconds = expect_seconds
        self.fast, self.slow = Tier(max_blocks), Tier(max_blocks)
        self.picks = PrefixIndex(max(max_blocks // 4, 1))
        self.adapters: set[str] = set()
        """Names of LoRA adapters that events named."""
        self.dropped = 0
        """Blocks given up for want of room, so far."""
        self._slots = Slots()
        self._slots.take()
        self._lanes: dict[int, int] = {}
        self._lane_of: Ints = np.zeros(16, np.int64)
        """By slot; lane 0, which holds nothing, for those that have none."""
        self._current = 0
        self._sweeping: set[int] = set()
        self._live: set[int] = set()
        self._block_tokens: dict[int, int] = {}
        self._sizes: tuple[int, ...] | None = None

    def __len__(self) -> int:
        """Confirmed blocks, once for each endpoint and tier, those being forgotten included."""
        return self.fast.count + self.slow.count

    # -- whose events arrive ----------------------------------------------------------------------

    @property
    def live(self) -> AbstractSet[int]:
        """Slots whose events arrive without a gap."""
        return self._live

    def set_live(self, slot: int, yes: bool) -> None:
        """Whether the endpoint's events can be trusted to be all there are."""
        if yes:
            self._lane(slot)
            self._live.add(slot)
        else:
            self._live.discard(slot)

    def block_tokens(self, slot: int) -> int:
        """Tokens in a block of ours for this endpoint; 0 while its engine has not said."""
        return self._block_tokens.get(slot, 0)

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """All sizes there are, in tokens, ascending."""
        if self._sizes is None:
            self._sizes = tuple(sorted(set(self._block_tokens.values())))
        return self._sizes

    def set_block_tokens(self, slot: int, tokens: int) -> None:
        """Take the size of the endpoint's blocks; another size forgets what was known of it."""
        known = self._block_tokens.get(slot)
        if known == tokens:
            return
        if known is not None:
            self.forget(slot)
        self._block_tokens[slot] = tokens
        self._sizes = None

    def note_adapter(self, name: str) -> None:
        """Remember that `name` is an adapter and no base model."""
        if len(self.adapters) < MOST_ADAPTERS:
            self.adapters.add(name)

    def forget(self, slot: int) -> None:
        """Drop what events told of an endpoint, at once, whatever it held; see `sweep`."""
        lane = self._lanes.pop(slot, None)
        if self._block_tokens.pop(slot, None) is not None:
            self._sizes = None
        if lane is None:
            return
        self._lane_of[slot] = 0
        self._current &= ~(1 << lane)
        self.fast.retire(lane)
        self.slow.retire(lane)
        self._sweeping.add(lane)
        self._give_back_swept()

    def emptied(self, slot: int) -> None:
        """The endpoint's cache is empty: what we expected of it is void, too."""
        self.forget(slot)
        self.picks.clear(slot)

    def on_removed(self, slot: int) -> None:
        """The endpoint has gone; its slot may be given to another."""
        self.forget(slot)
        self._live.discard(slot)
        self.picks.on_removed(slot)

    def sweep(self, blocks: int = SWEPT_AT_ONCE) -> int:
        """Free up to so many forgotten blocks; returns how many. 0.3 us each."""
        if not self._sweeping:
            return 0
        freed = self.fast.sweep(blocks)
        freed += self.slow.sweep(blocks - freed)
        self._give_back_swept()
        return freed

    def _give_back_swept(self) -> None:
        for lane in tuple(self._sweeping):
            if not (self.fast.retired(lane) or self.slow.retired(lane)):
                self._sweeping.discard(lane)
                self._slots.give_back(lane)

    def _lane(self, slot: int) -> int:
        lane = self._lanes.get(slot)
        if lane is None:
            lane = self._lanes[slot] = self._slots.take()
            self._current |= 1 << lane
            self._room_for(slot)
            self._lane_of[slot] = lane
        return lane

    def _room_for(self, slot: int) -> None:
        if slot >= len(self._lane_of):
            more = np.zeros(slot + 64 - len(self._lane_of), np.int64)
            self._lane_of = np.concatenate([self._lane_of, more])

    # -- what engines report ----------------------------------------------------------------------

    def key_of(self, slot: int, name: int) -> int | None:
        """Our key of the block the engine in `slot` calls `name`; None for an unknown one."""
        lane = self._lanes.get(slot)
        if lane is None:
            return None
        key = self.fast.key(lane, name)
        return self.slow.key(lane, name) if key is None else key

    def stored(self, slot: int, names: Sequence[int], keys: Sequence[int], *, fast: bool) -> None:
        """The engine in `slot` now holds `keys`, which it calls `names`."""
        (self.fast if fast else self.slow).add(self._lane(slot), names, keys)
        if self._sweeping:
            self.sweep()
        if len(self) > self.max_blocks:
            self._shrink()

    def removed(self, slot: int, names: Sequence[int], *, fast: bool) -> None:
        """The engine in `slot` no longer holds those blocks in that tier."""
        lane = self._lanes.get(slot)
        if lane is not None:
            (self.fast if fast else self.slow).remove(lane, names)

    def _shrink(self) -> None:
        """What is forgotten goes first, then the newest leaves of whoever holds most."""
        self.sweep(len(self) - self.max_blocks)
        while (excess := len(self) - self.max_blocks) > 0:
            tier = max((self.fast, self.slow), key=lambda tier: tier.count)
            lane = tier.fullest
            self.dropped += tier.drop_newest(lane, min(excess, max(tier.held(lane) // 2, 1)))

    # -- what we expect ---------------------------------------------------------------------------

    def expect(self, slot: int, chain: Sequence[int], capacity: int, now: float) -> None:
        """A prompt was sent to `slot`, whose memory has room for `capacity` blocks.

        `chain` is thinned out by `every`.
        """
        self.picks.insert(slot, chain, capacity, now)

    # -- who holds a prompt -----------------------------------------------------------------------

    def match(self, keys: Sequence[int], size: int, slots: Ints, now: float) -> Match:
        """Leading blocks of `keys` (of `size` tokens) at each of `slots`, by layer."""
        holders = self.fast.holders, self.slow.holders
        fast = anywhere = self._by_slot(walk(holders[:1], keys, self._current), slots)
        if self.slow.count:
            anywhere = self._by_slot(walk(holders, keys, self._current), slots)
        expected = self.guess(keys, size, slots)
        # Where events arrive only what was picked lately counts: the rest they have told.
        since = now - self.expect_seconds
        kept = thinned(keys, size)
        for row in np.flatnonzero(expected > anywhere).tolist():
            slot = int(slots[row])
            if slot in self._live:
                blocks = kept[: expected[row] // every(size)]
                expected[row] = self.picks.used_since(slot, blocks, since) * every(size)
        return Match(fast, anywhere, expected)

    def _by_slot(self, runs: Sequence[Run], slots: Ints) -> Ints:
        return spread(runs, self._lanes_of(slots))

    def _lanes_of(self, slots: Ints) -> Ints:
        try:
            return self._lane_of[slots]
        except IndexError:
            self._room_for(int(slots.max()))
            return self._lane_of[slots]

    def guess(self, keys: Sequence[int], size: int, slots: Ints) -> Ints:
        """Leading blocks of `keys` by our own picks, whenever they were, at each of `slots`."""
        return spread(self.picks.match(thinned(keys, size)), slots) * every(size)

    # -- for people -------------------------------------------------------------------------------

    def held(self, slot: int) -> int:
        """Confirmed blocks of one endpoint, all tiers together."""
        lane = self._lanes.get(slot)
        return 0 if lane is None else self.fast.held(lane) + self.slow.held(lane)

    def blocks(self, slot: int, *, fast: bool) -> dict[int, int]:
        """Engine's hash to our key for one endpoint and tier. Not to be changed."""
        lane = self._lanes.get(slot)
        return {} if lane is None else (self.fast if fast else self.slow).items(lane)


def every(size: int) -> int:
    """Of blocks of `size` tokens, every how many-th is kept among the expectations."""
    return max(1, EXPECT_TOKENS // size)


def thinned(chain: Sequence[int], size: int) -> Sequence[int]:
    """The keys of `chain` that stand among the expectations."""
    step = every(size)
    return chain[step - 1 :: step]
