"""One tier of the caches that engines report: which lane holds which block, under which name.

A lane is a bit for one endpoint and one stretch of knowledge about it. To forget an endpoint its
lane is retired, which costs nothing; what the lane held is swept away later, in small pieces.
"""

from collections.abc import Sequence
from typing import TypeAlias

from epp.datastore.residency_holders import Holders

Held: TypeAlias = dict[int, int]
"""The engine's hash of a block to our key of it, in the order they were stored."""


class Tier:
    """Blocks in one kind of memory. Engines' hashes are known by lane, our keys to all."""

    def __init__(self, expected: int = 0) -> None:
        self.holders = Holders(expected)
        """By our keys; retired lanes that are not swept yet included."""
        self._held: dict[int, Held] = {}
        self._again: dict[int, dict[int, int]] = {}
        self._shared: dict[int, dict[int, int]] = {}
        """By lane: keys of ours that stand for several blocks of the engine, and how many more."""
        self._retired: dict[int, Held] = {}
        self.count = 0
        """Blocks held, once for each lane, those not yet swept included."""

    def held(self, lane: int) -> int:
        """Blocks of one lane."""
        return len(self._held.get(lane, ()))

    def items(self, lane: int) -> Held:
        """Engine's hash to our key, in the order they were stored. Not to be changed."""
        return self._held.get(lane, {})

    def key(self, lane: int, name: int) -> int | None:
        """Our key of the block the engine calls `name`."""
        held = self._held.get(lane)
        return held.get(name) if held else None

    # -- what engines report ----------------------------------------------------------------------

    def add(self, lane: int, names: Sequence[int], keys: Sequence[int]) -> None:
        """Blocks were stored; one stored twice has to be removed twice."""
        held = self._held.get(lane)
        if held is None:
            held = self._held[lane] = {}
        fresh: list[int] = []
        for name, key in zip(names, keys, strict=True):
            if name in held:
                one_more(self._again.setdefault(lane, {}), name)
            else:
                held[name] = key
                fresh.append(key)
        # What an engine keeps apart may be one to us: adapters it does not name, tokens ahead.
        for key in self.holders.mark(fresh, lane):
            one_more(self._shared.setdefault(lane, {}), key)
        self.count += len(fresh)

    def remove(self, lane: int, names: Sequence[int]) -> None:
        """Blocks were evicted; unknown ones are ignored."""
        held, again = self._held.get(lane), self._again.get(lane)
        if held is None:
            return
        for name in names:
            if again and name in again:
                one_less(again, name)
            elif (key := held.pop(name, None)) is not None:
                self._unmark(lane, key)
                self.count -= 1

    def _unmark(self, lane: int, key: int) -> None:
        shared = self._shared.get(lane)
        if shared and key in shared:
            one_less(shared, key)
        else:
            self.holders.unmark(key, lane)

    # -- room -------------------------------------------------------------------------------------

    def drop_newest(self, lane: int, blocks: int) -> int:
        """Give up the last blocks stored, leaves all of them; returns how many.

        An engine stores a block after the one before it, so nothing hangs from the newest.
        """
        held = self._held.get(lane, {})
        dropped = min(blocks, len(held))
        for _ in range(dropped):
            name, key = held.popitem()
            self._again.get(lane, {}).pop(name, None)
            self._unmark(lane, key)
        self.count -= dropped
        return dropped

    def retire(self, lane: int) -> None:
        """The lane is not asked about any more; its blocks wait for `sweep`."""
        self._again.pop(lane, None)
        self._shared.pop(lane, None)
        held = self._held.pop(lane, None)
        if held:
            self._retired[lane] = held

    def retired(self, lane: int) -> bool:
        """Whether the lane still has blocks to sweep."""
        return lane in self._retired

    def sweep(self, blocks: int) -> int:
        """Free up to so many blocks of retired lanes; returns how many."""
        freed = 0
        while freed < blocks and self._retired:
            lane, held = next(iter(self._retired.items()))
            for _ in range(min(len(held), blocks - freed)):
                self.holders.unmark(held.popitem()[1], lane)
                freed += 1
            if not held:
                del self._retired[lane]
        self.count -= freed
        return freed

    @property
    def fullest(self) -> int:
        """The lane with the most blocks. Raises ValueError when no lane has any."""
        return max(self._held, key=lambda lane: len(self._held[lane]))


def one_more(counts: dict[int, int], what: int) -> None:
    counts[what] = counts.get(what, 0) + 1


def one_less(counts: dict[int, int], what: int) -> None:
    if counts[what] == 1:
        del counts[what]
    else:
        counts[what] -= 1
