"""KV blocks with a prefix cache, as vLLM's block pool behaves, without block ids.

A block that nobody can tell from another needs no identity: it is enough to know, for each key
(the chained hash of a full block), how many sequences hold it, and in which order the unheld ones
were freed. Blocks without a key of their own (partial tails, copies of a key that is cached
already) are counted only while they are held.

    fresh + idle_blocks + len(held) + nameless == capacity        always

Keys are non-negative integers of any size. A freed block without a key is as good as a fresh one
and is used before any cached block is evicted. A freed copy stands on the free list under a
negative number, which `spare` finds by its key; it is announced and removed like any block, and
serves the key once the first block is gone.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Row

    from vllm_sim.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Stored:
    """One contiguous run of newly cached blocks: `keys` are those from `first` of the sequence."""

    sequence: Sequence
    first: int
    keys: tuple[int, ...]
    parent: int | None


@dataclass(frozen=True, slots=True)
class Removed:
    """One evicted block."""

    key: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """Every cached block is gone."""


KVEvent = Stored | Removed | Cleared


class BlockPool:
    """Blocks of one replica; `log` collects events while `record` is set."""

    __slots__ = (
        "_blank",
        "_copied",
        "capacity",
        "fresh",
        "held",
        "idle",
        "idle_blocks",
        "log",
        "nameless",
        "record",
        "spare",
    )

    def __init__(self, capacity: int, *, record: bool = False) -> None:
        self.capacity = capacity
        self.fresh = capacity
        self.idle: OrderedDict[int, int] = OrderedDict()
        self.idle_blocks = 0
        self.held: dict[int, int] = {}
        self.nameless = 0
        self.record = record
        self.log: list[KVEvent] = []
        self.spare: dict[int, list[int]] = {}
        self._copied: dict[int, int] = {}
        self._blank = 0

    @property
    def free(self) -> int:
        """Blocks no sequence holds, cached or not."""
        return self.fresh + self.idle_blocks

    @property
    def cached(self) -> int:
        """Keys a lookup would find."""
        first = len(self.held) + sum(1 for key in self.idle if key >= 0)
        return first + sum(1 for key in self.spare if key not in self.held and key not in self.idle)

    def match(self, keys: Row[int], limit: int) -> int:
        """How many of the first `limit` keys are cached, counted from the start without a gap."""
        held, idle = self.held, self.idle
        count = 0
        for key in keys[:limit]:
            if key not in held and key not in idle and key not in self.spare:
                break
            count += 1
        return count

    def idle_among(self, keys: Row[int], count: int) -> int:
        """How many of the first `count` keys are idle: claiming them uses free blocks up."""
        held = self.held
        return sum(1 for key in keys[:count] if key not in held)

    def claim(self, keys: Row[int], count: int) -> None:
        """Holds the first `count` keys, which `match` has just found."""
        held, idle = self.held, self.idle
        for key in keys[:count]:
            if key in held:
                held[key] += 1
            else:
                del idle[key if key in idle else self._unspare(key)]
                self.idle_blocks -= 1
                held[key] = 1

    def take(self, count: int) -> None:
        """Allocates nameless blocks, evicting the oldest idle ones; `count` must be free."""
        self.nameless += count
        ready = min(count, self.fresh)
        self.fresh -= ready
        missing = count - ready
        self.idle_blocks -= missing
        for _ in range(missing):
            self._evict()

    def _evict(self) -> None:
        key, _ = self.idle.popitem(last=False)
        if key < 0:
            key, entry = self._copied[key], key
            self._unspare(key, entry)
        if self.record:
            self.log.append(Removed(key))

    def _unspare(self, key: int, blank: int | None = None) -> int:
        """Takes a freed copy of the key, that entry or the oldest, off the list; its entry."""
        entries = self.spare[key]
        found = entries[0] if blank is None else blank
        entries.remove(found)
        if not entries:
            del self.spare[key]
        del self._copied[found]
        return found

    def publish(self, seq: Sequence, upto: int) -> None:
        """Gives the sequence's nameless full blocks, up to number `upto`, their keys."""
        keys = seq.request.keys
        upto = min(upto, len(keys))
        start = seq.published
        if upto <= start:
            return
        held, idle, spare = self.held, self.idle, self.spare
        for position in range(start, upto):
            key = keys[position]
            if key in held or key in idle or key in spare:
                seq.note_copy(position)
            else:
                held[key] = 1
                self.nameless -= 1
        seq.published = upto
        self._log_stored(seq, start, upto)

    def _log_stored(self, seq: Sequence, first: int, end: int) -> None:
        if self.record and end > first:
            keys = seq.request.keys
            parent = keys[first - 1] if first else None
            self.log.append(Stored(seq, first, tuple(keys[first:end]), parent))

    def release(self, seq: Sequence) -> None:
        """Frees all blocks of the sequence, tail first, so that tails are evicted first."""
        named = seq.published
        self._free_nameless(seq.held - named)
        keys, copies = seq.request.keys, seq.copies
        held, idle = self.held, self.idle
        for position in range(named - 1, -1, -1):
            key = keys[position]
            if copies and position in copies:
                self._free_copy(key)
                continue
            owners = held[key]
            if owners > 1:
                held[key] = owners - 1
            else:
                del held[key]
                idle[key] = 1
                self.idle_blocks += 1
        seq.forget_blocks()

    def _free_copy(self, key: int) -> None:
        """A copy becomes the key's block where no other is left, else one to spare."""
        self.nameless -= 1
        self.idle_blocks += 1
        if key not in self.held and key not in self.idle:
            self.idle[key] = 1
            return
        self._blank -= 1
        self.idle[self._blank] = 1
        self._copied[self._blank] = key
        self.spare.setdefault(key, []).append(self._blank)

    def _free_nameless(self, count: int) -> None:
        self.fresh += count
        self.nameless -= count

    def clear(self) -> bool:
        """Forgets every cached block; refused (False) while a sequence holds any, as in vLLM."""
        if self.held or self.nameless:
            return False
        self.idle.clear()
        self.spare.clear()
        self._copied.clear()
        self.idle_blocks = 0
        self.fresh = self.capacity
        if self.record:
            self.log.append(Cleared())
        return True
