"""Who holds which block, as one flat table that numpy can ask for thousands of keys at once.

A dict of a million keys costs three or four misses of the processor's cache for each key, one after
another; asked all at once they overlap: 6,250 keys in 0.3 ms instead of 3 (bench_kvevents.py).
Endpoints that hold a block are a bit mask; few masks differ, so the table has their numbers.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Keys: TypeAlias = npt.NDArray[np.uint64]
Numbers: TypeAlias = npt.NDArray[np.uint32]
Run: TypeAlias = tuple[int, int]
"""Lanes, as a mask, and how many leading blocks exactly they hold."""

LEAST: Final = 1024
MOST_AT_START: Final = 1_000_000
"""Keys there is room for at once (25 MB). Few keys in a table for many would each touch a page."""
FEW: Final = 8
"""So many keys are asked for one by one; most prompts are short, or nobody holds even the first."""
AT_ONCE: Final = (256, 8192)
"""Keys asked for at once at first, and from then on. Any number up to 256 takes 20 us."""


class Masks:
    """The bit masks in use, by number. Number 0 is the empty one: nobody."""

    def __init__(self) -> None:
        self.by_number: list[int] = [0]
        self._uses: list[int] = [1]
        self._numbers: dict[int, int] = {0: 0}
        self._free: list[int] = []

    def __len__(self) -> int:
        """Masks in use, the empty one left out."""
        return len(self._numbers) - 1

    def take(self, mask: int) -> int:
        """The number of `mask`, once more in use."""
        number = self._numbers.get(mask)
        if number is None:
            number = self._new(mask)
        self._uses[number] += 1
        return number

    def leave(self, number: int) -> None:
        """One use fewer; a number without uses may stand for another mask."""
        self._uses[number] -= 1
        if not self._uses[number]:
            del self._numbers[self.by_number[number]]
            self._free.append(number)

    def _new(self, mask: int) -> int:
        if self._free:
            number = self._free.pop()
            self.by_number[number] = mask
        else:
            number = len(self.by_number)
            self.by_number.append(mask)
            self._uses.append(0)
        self._numbers[mask] = number
        return number


class Holders:
    """Key to mask, for about `expected` keys; with many more it grows, in one go.

    Open addressing: a key stands at its low bits or, where these are taken, right behind. A key
    that goes is filled up from behind, so nothing is left to clean.
    """

    def __init__(self, expected: int = 0) -> None:
        self._masks = Masks()
        self.count = 0
        """Keys that somebody holds."""
        at_start = min(expected, MOST_AT_START)
        self._lay_out(1 << max(LEAST, 2 * at_start - 1).bit_length())

    def __len__(self) -> int:
        return self.count

    def _lay_out(self, size: int) -> None:
        # Memory that is not touched is not taken: a table of a million keys begins at nothing.
        self._keys: Keys = np.zeros(size, np.uint64)
        self._numbers: Numbers = np.zeros(size, np.uint32)
        # One by one, a memoryview is three times as fast as the array.
        self._key_at = self._keys.data
        self._number_at = self._numbers.data
        self._low = size - 1
        self._mask = np.uint64(self._low)

    def of(self, key: int) -> int:
        """The mask of one key; 0 where nobody holds it."""
        return self._masks.by_number[self._number_at[self._place(key)]]

    def _place(self, key: int) -> int:
        """Where `key` stands, or would stand."""
        numbers, keys, low = self._number_at, self._key_at, self._low
        at = key & low
        while numbers[at] and keys[at] != key:
            at = (at + 1) & low
        return at

    # -- many at once -----------------------------------------------------------------------------

    def find(self, keys: Keys) -> Numbers:
        """The number of each key's mask, 0 where nobody holds it."""
        at = (keys & self._mask).view(np.int64)
        found = self._numbers[at]
        other = np.flatnonzero(self._keys[at] != keys)
        other = other[found[other] != 0]
        while other.size:
            at[other] = behind = (at[other] + 1) & self._low
            found[other] = numbers = self._numbers[behind]
            other = other[(numbers != 0) & (self._keys[behind] != keys[other])]
        return found

    def mask(self, number: int) -> int:
        """The mask that `find` gave the number of."""
        return self._masks.by_number[number]

    # -- changes ----------------------------------------------------------------------------------

    def mark(self, keys: Sequence[int], lane: int) -> list[int]:
        """A lane now holds `keys`; returns those it held already, mostly none."""
        if 4 * (self.count + len(keys)) > 3 * (self._low + 1):
            self._grow(self.count + len(keys))
        bit, masks, place, numbers = 1 << lane, self._masks, self._place, self._number_at
        before: list[int] = []
        for key in keys:
            at = place(key)
            number = numbers[at]
            if not number:
                self._key_at[at] = key
                numbers[at] = masks.take(bit)
                self.count += 1
            elif not (mask := masks.by_number[number]) & bit:
                numbers[at] = masks.take(mask | bit)
                masks.leave(number)
            else:
                before.append(key)
        return before

    def unmark(self, key: int, lane: int) -> None:
        """A lane no longer holds `key`."""
        at = self._place(key)
        number = self._number_at[at]
        if not number:
            return
        if rest := self._masks.by_number[number] & ~(1 << lane):
            self._number_at[at] = self._masks.take(rest)
        else:
            self._close(at)
            self.count -= 1
        self._masks.leave(number)

    def _close(self, hole: int) -> None:
        """Take out what stands at `hole`, and move up what was put behind it for want of room."""
        numbers, keys, low = self._number_at, self._key_at, self._low
        at = hole
        while numbers[at := (at + 1) & low]:
            if (at - keys[at]) & low >= (at - hole) & low:
                keys[hole], numbers[hole] = keys[at], numbers[at]
                hole = at
        numbers[hole] = 0

    def _grow(self, expected: int) -> None:
        """Lay out anew for so many keys; to move two millions takes 0.3 s."""
        taken = np.flatnonzero(self._numbers)
        keys, numbers = self._keys[taken], self._numbers[taken]
        self._lay_out(1 << (2 * expected - 1).bit_length())
        at = (keys & self._mask).view(np.int64)
        while keys.size:
            free = self._numbers[at] == 0
            # Of several that want one place the last is written, in both arrays alike.
            self._keys[at[free]] = keys[free]
            self._numbers[at[free]] = numbers[free]
            left = ~(free & (self._keys[at] == keys))
            at, keys, numbers = (at[left] + 1) & self._low, keys[left], numbers[left]


def walk(tables: Sequence[Holders], keys: Sequence[int], mask: int) -> list[Run]:
    """Which lanes of `mask` hold exactly how many leading blocks of `keys`, in any of `tables`.

    Shortest first; lanes that hold none are left out. No block is skipped, for an engine may drop
    one out of the middle.
    """
    runs: list[Run] = []
    for at, held in _holders(tables, keys):
        rest = held & mask
        if rest != mask:
            if at:
                runs.append((mask & ~rest, at))
            mask = rest
            if not mask:
                return runs
    if keys and mask:
        runs.append((mask, len(keys)))
    return runs


def _holders(tables: Sequence[Holders], keys: Sequence[int]) -> Iterator[Run]:
    """`(position, lanes)` of the first key, and of those held by others than the key before.

    Few keys come one by one, with repetitions.
    """
    for at, key in enumerate(keys[:FEW]):
        held = 0
        for table in tables:
            held |= table.of(key)
        yield at, held
    at = FEW
    for size in chain(AT_ONCE, repeat(AT_ONCE[-1])):
        if at >= len(keys):
            return
        part = np.array(keys[at : at + size], np.uint64)
        numbers = [table.find(part) for table in tables]
        for begin in _begins(numbers):
            held = 0
            for table, each in zip(tables, numbers, strict=True):
                held |= table.mask(each[begin])
            yield at + begin, held
        at += size


def _begins(numbers: Sequence[Numbers]) -> list[int]:
    """The first place, and those where any of `numbers` is another than before."""
    differ = numbers[0][1:] != numbers[0][:-1]
    for each in numbers[1:]:
        differ |= each[1:] != each[:-1]
    return [0, *(np.flatnonzero(differ) + 1).tolist()]
