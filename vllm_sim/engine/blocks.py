"""KV blocks with a prefix cache, as vLLM's block pool behaves, without block ids.

A block that nobody can tell from another needs no identity: it is enough to know, for each key
(the chained hash of a full block), how many sequences hold it, and in which order the unheld ones
were freed. Blocks without a key (partial tails, copies of a cached key) are counted only.

    fresh + idle_blocks + len(held) + nameless == capacity        always

Keys are non-negative integers of any size. Freed runs of nameless blocks are one entry of the free
list, under a negative number of their own.
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
        "capacity",
        "fresh",
        "held",
        "idle",
        "idle_blocks",
        "log",
        "nameless",
        "record",
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
        self._blank = 0

    @property
    def free(self) -> int:
        """Blocks no sequence holds, cached or not."""
        return self.fresh + self.idle_blocks

    @property
    def cached(self) -> int:
        """Keys a lookup would find."""
        return len(self.held) + sum(1 for key in self.idle if key >= 0)

    def match(self, keys: Row[int], limit: int) -> int:
        """How many of the first `limit` keys are cached, counted from the start without a gap."""
        held, idle = self.held, self.idle
        count = 0
        for key in keys[:limit]:
            if key not in held and key not in idle:
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
                del idle[key]
                self.idle_blocks -= 1
                held[key] = 1

    def take(self, count: int) -> None:
        """Allocates nameless blocks, evicting the oldest idle ones; `count` must be free."""
        self.nameless += count
        ready = min(count, self.fresh)
        self.fresh -= ready
        missing = count - ready
        self.idle_blocks -= missing
        while missing > 0:
            missing -= self._evict(missing)

    def _evict(self, wanted: int) -> int:
        key, run = self.idle.popitem(last=False)
        if key >= 0:
            if self.record:
                self.log.append(Removed(key))
            return 1
        if run > wanted:
            self.idle[key] = run - wanted
            self.idle.move_to_end(key, last=False)
            return wanted
        return run

    def publish(self, seq: Sequence, upto: int) -> None:
        """Gives the sequence's nameless full blocks, up to number `upto`, their keys."""
        keys = seq.request.keys
        upto = min(upto, len(keys))
        start = seq.published
        if upto <= start:
            return
        held, idle = self.held, self.idle
        run = start
        for position in range(start, upto):
            key = keys[position]
            if key in held or key in idle:
                seq.note_copy(position)
                self._log_stored(seq, run, position)
                run = position + 1
            else:
                held[key] = 1
                self.nameless -= 1
        seq.published = upto
        self._log_stored(seq, run, upto)

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
            if copies and position in copies:
                self._free_nameless(1)
                continue
            key = keys[position]
            owners = held[key]
            if owners > 1:
                held[key] = owners - 1
            else:
                del held[key]
                idle[key] = 1
                self.idle_blocks += 1
        seq.forget_blocks()

    def _free_nameless(self, count: int) -> None:
        if count:
            self._blank -= 1
            self.idle[self._blank] = count
            self.idle_blocks += count
            self.nameless -= count

    def clear(self) -> bool:
        """Forgets every cached block; refused (False) while a sequence holds any, as in vLLM."""
        if self.held or self.nameless:
            return False
        self.idle.clear()
        self.idle_blocks = 0
        self.fresh = self.capacity
        if self.record:
            self.log.append(Cleared())
        return True
