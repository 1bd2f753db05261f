"""The order of one engine's batches: nothing is missed without being noticed.

A pure state machine. Batches, replies to replays and the passing of time go in; what to do comes
out: `Apply` a payload, `Reset` (forget the engine's blocks), `Ask` for a replay.

    seq as expected              apply
    seq too high                 wait a moment for the ones between; then ask for a replay from the
                                 last one seen, or reset where the engine offers none
    seq too low, same bytes      a repeat: nothing
    seq too low, other bytes     the engine has started again: reset, and go on from there
    link came back               the engine may be another one: as if something were missing

A replay begins with the last batch seen. If that comes back as it was, it is the same engine and
what follows closes the gap; if it comes otherwise, or not at all, it is another one, and all that
is known of it starts from the replay. So a replay also serves a picker that comes late, and one
that wakes with a snapshot.
"""

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Final, TypeAlias

from xxhash import xxh3_64_intdigest

from epp.kvevents.stats import Counts

REMEMBERED: Final = 512
"""Digests of the last batches, to tell a repeat from a restart."""
MOST_HELD: Final = 1024
MOST_HELD_BYTES: Final = 4 << 20
MOST_ASKED: Final = 3


@dataclass(slots=True, frozen=True)
class Apply:
    """Take this payload as the next batch."""

    payload: bytes


@dataclass(slots=True, frozen=True)
class Reset:
    """Forget the engine's blocks. `why`: gap, restart, link."""

    why: str


@dataclass(slots=True, frozen=True)
class Ask:
    """Ask the engine for all it has from `first` on. One is under way at a time."""

    first: int


Step: TypeAlias = Apply | Reset | Ask


@dataclass(slots=True, frozen=True)
class Timing:
    """Seconds."""

    grace: float = 0.1
    """How long a missing batch may be merely late."""
    probe: float = 5.0
    """A quiet engine that replays is asked so often whether the last batches were lost."""
    retry: float = 30.0
    """How long after replays failed one is tried again."""


class Sequence:
    """One engine's batches. Every method returns the steps to take, in order.

    `replays` says whether the engine answers `Ask`. Times are monotonic seconds.
    """

    def __init__(self, *, replays: bool, counts: Counts, timing: Timing | None = None) -> None:
        self._replays = replays
        self._counts = counts
        self._timing = timing or Timing()
        self._next: int | None = None
        """The number of the next batch; None before the first."""
        self._digests: deque[int] = deque(maxlen=REMEMBERED)
        self._held: dict[int, bytes] = {}
        self._held_bytes = 0
        self._gap_ends: float | None = None
        self._asked: int | None = None
        self._asked_in_a_row = 0
        self._first_reply = False
        self._discarding = False
        self._ask_again = False
        self._linked = False
        self._doubted = False
        self._heard = 0.0
        self._ask_after = 0.0

    # -- what is known ----------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether all the engine has said is known, as far as can be told."""
        return self._next is not None and self._gap_ends is None and self._asked is None

    @property
    def next(self) -> int | None:
        """The number of the next batch; None while there was none."""
        return self._next

    @property
    def last_digest(self) -> int | None:
        """What identifies the last batch, for a snapshot."""
        return self._digests[-1] if self._digests else None

    @property
    def asking(self) -> bool:
        """Whether a replay is under way."""
        return self._asked is not None

    @property
    def due(self) -> float:
        """When `tick` should be called next."""
        if self._asked is not None:
            return inf
        if self._gap_ends is not None:
            return self._gap_ends
        if not (self._replays and self._linked):
            return inf
        return max(self._heard + self._timing.probe, self._ask_after)

    def restore(self, following: int, digest: int) -> None:
        """Go on where a snapshot ended: batch `following` is the next, the one before is known."""
        self._next = following
        self._digests.append(digest)
        self._doubted = True

    # -- what happens -----------------------------------------------------------------------------

    def linked(self, now: float) -> list[Step]:
        """The link to the engine stands, for the first time or again.

        Between two links batches may have been lost, or the engine exchanged for another.
        """
        first, self._linked = not self._linked, True
        if not first:
            self._gap_ends = None
            self._held, self._held_bytes = {}, 0
        if self._asked is not None:
            self._ask_again = True
            return []
        if self._replays and now >= self._ask_after:
            self._doubted = self._next is not None
            return self._ask(now)
        return [] if first else self._start_over("link")

    def received(self, seq: int, payload: bytes, now: float) -> list[Step]:
        """A batch arrived by subscription."""
        self._heard = now
        if self._asked is not None:
            self._hold(seq, payload)
            return []
        return self._take(seq, payload, now)

    def replayed(self, seq: int, payload: bytes, now: float) -> list[Step]:
        """A batch of a replay arrived."""
        if self._asked is None or self._discarding:
            return []
        steps: list[Step] = []
        if self._first_reply:
            self._first_reply = False
            steps += self._judge(seq, payload)
            if self._discarding or self._is_last(seq, payload):
                return steps
        if self._next is not None and seq < self._next:
            return steps
        if self._next is not None and seq > self._next:
            steps += self._start_over("gap")
        if self._next is None:
            self._forget_held(*(held for held in self._held if held < seq))
        self._forget_held(seq)
        return [*steps, *self._accept(seq, payload)]

    def replay_ended(self, now: float) -> list[Step]:
        """The engine has sent all it had."""
        if self._asked is None:
            return []
        nothing, asked, self._asked = self._first_reply, self._asked, None
        self._counts.replays["done"] += 1
        self._heard = now
        if nothing and self._digests:
            # Not even the last batch seen: the engine's count has not come that far.
            self._counts.restarts += 1
            return [*self._start_over("restart"), *self._ask(now)]
        if self._discarding or self._ask_again:
            return self._ask(now)
        if nothing and asked == 0:
            self._next = 0
        self._doubted = False
        return self._take_held(now)

    def replay_failed(self, now: float) -> list[Step]:
        """No answer, or one that stopped half way."""
        if self._asked is None:
            return []
        self._asked = None
        self._ask_again = self._discarding = False
        self._counts.replays["failed"] += 1
        self._ask_after = now + self._timing.retry
        steps: list[Step] = []
        if self._gap_ends is not None or self._doubted:
            steps += self._start_over("gap")
        return [*steps, *self._take_held(now)]

    def tick(self, now: float) -> list[Step]:
        """Time has passed: give up waiting for late batches, ask a quiet engine."""
        if self._asked is not None or now < self.due:
            return []
        if self._replays and now >= self._ask_after:
            return self._ask(now)
        return [*self._start_over("gap"), *self._take_held(now)]

    # -- batches ----------------------------------------------------------------------------------

    def _take(self, seq: int, payload: bytes, now: float) -> list[Step]:
        if self._next is None or seq == self._next:
            return [*self._accept(seq, payload), *self._take_held(now)]
        if seq > self._next:
            self._hold(seq, payload)
            if self._gap_ends is None:
                self._counts.gaps += 1
                self._gap_ends = now + self._timing.grace
            return []
        if self._known(seq, payload):
            self._counts.repeated += 1
            return []
        return self._restarted(seq, payload, now)

    def _restarted(self, seq: int, payload: bytes, now: float) -> list[Step]:
        self._counts.restarts += 1
        steps = self._start_over("restart")
        self._held, self._held_bytes = {}, 0
        if seq > 0 and self._replays and now >= self._ask_after:
            self._hold(seq, payload)
            return [*steps, *self._ask(now)]
        return [*steps, *self._accept(seq, payload)]

    def _accept(self, seq: int, payload: bytes) -> list[Step]:
        self._next = seq + 1
        self._doubted = False
        self._digests.append(xxh3_64_intdigest(payload))
        return [Apply(payload)]

    def _take_held(self, now: float) -> list[Step]:
        """Go on with what waited, as far as it follows."""
        steps: list[Step] = []
        self._gap_ends = None
        for seq in sorted(self._held):
            if seq in self._held and self._asked is None:
                if self._next is not None and seq > self._next:
                    self._gap_ends = now + self._timing.grace
                    break
                steps += self._take_one_held(seq, now)
        self._asked_in_a_row = self._asked_in_a_row if self._held else 0
        return steps

    def _take_one_held(self, seq: int, now: float) -> list[Step]:
        payload = self._held.pop(seq)
        self._held_bytes -= len(payload)
        if self._next is None or seq == self._next:
            return self._accept(seq, payload)
        if self._known(seq, payload):
            return []
        return self._restarted(seq, payload, now)

    def _known(self, seq: int, payload: bytes) -> bool:
        """Whether the batch is one of the last that were applied."""
        back = (self._next or 0) - seq
        return 0 < back <= len(self._digests) and self._digests[-back] == xxh3_64_intdigest(payload)

    def _hold(self, seq: int, payload: bytes) -> None:
        """Keep a batch for later; with too many the oldest are lost, which is noticed as a gap."""
        self._held_bytes += len(payload) - len(self._held.get(seq, b""))
        self._held[seq] = payload
        while len(self._held) > MOST_HELD or self._held_bytes > MOST_HELD_BYTES:
            self._held_bytes -= len(self._held.pop(min(self._held)))

    def _forget_held(self, *seqs: int) -> None:
        for seq in seqs:
            if (payload := self._held.pop(seq, None)) is not None:
                self._held_bytes -= len(payload)

    # -- starting over ----------------------------------------------------------------------------

    def _start_over(self, why: str) -> list[Step]:
        known = self._next is not None
        self._next = None
        self._digests.clear()
        self._gap_ends = None
        self._doubted = False
        return [Reset(why)] if known else []

    def _ask(self, now: float) -> list[Step]:
        if self._asked_in_a_row >= MOST_ASKED:
            self._asked_in_a_row = 0
            self._ask_again = self._discarding = False
            self._ask_after = now + self._timing.retry
            return [*self._start_over("gap"), *self._take_held(now)]
        self._asked_in_a_row += 1
        self._ask_again = self._discarding = False
        self._asked = max((self._next or 0) - 1, 0)
        self._first_reply = True
        return [Ask(self._asked)]

    def _judge(self, seq: int, payload: bytes) -> list[Step]:
        """Is it the engine we know? The first batch of the replay tells."""
        if not self._digests or self._is_last(seq, payload):
            return []
        if self._next is None or seq >= self._next:
            return self._start_over("gap")
        # Another engine, whose count has come as far: all it has said is wanted, from its start.
        self._counts.restarts += 1
        self._discarding = True
        return self._start_over("restart")

    def _is_last(self, seq: int, payload: bytes) -> bool:
        if self._next is None or seq != self._next - 1 or not self._digests:
            return False
        return self._digests[-1] == xxh3_64_intdigest(payload)
