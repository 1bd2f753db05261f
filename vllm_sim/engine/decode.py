"""The decoding sequences of a replica, stepped together.

Every decoding sequence gets one token in every step, so a step need not touch them one by one: it
is enough to know who needs a new block in this step (a ring of `block_size` phases), who ends in it
(buckets by step number) and the sum of their contexts. Each sequence is settled when it leaves.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from vllm_sim.engine.sequence import Sequence, State

if TYPE_CHECKING:
    from vllm_sim.engine.blocks import BlockPool

Members = dict[Sequence, None]


class DecodeBatch:
    """`step` numbers the step in flight, or the last one; `context` sums the lengths it reads."""

    __slots__ = (
        "_due",
        "_due_steps",
        "_in_flight",
        "_keyed",
        "_phases",
        "_pool",
        "_publishes",
        "_size",
        "_ungrown",
        "context",
        "loras",
        "members",
        "step",
    )

    def __init__(self, block_size: int, pool: BlockPool, *, publishes: bool) -> None:
        self._publishes = publishes
        self._size = block_size
        self._pool = pool
        self._phases: list[Members] = [{} for _ in range(block_size)]
        self._keyed: list[Members] = [{} for _ in range(block_size)]
        self._due: dict[int, Members] = {}
        self._due_steps: list[int] = []
        self._in_flight = False
        self._ungrown: set[Sequence] = set()
        self.members: Members = {}
        self.step = 0
        self.context = 0
        self.loras = 0

    def __len__(self) -> int:
        return len(self.members)

    def join(self, seq: Sequence) -> None:
        """Takes in a sequence whose last known token is not computed yet."""
        seq.state = State.DECODE
        seq.joined = self.step
        seq.due = self.step + seq.request.output_tokens - seq.generated
        self.members[seq] = None
        self.context += seq.computed + 1
        self.loras += seq.request.lora is not None
        phase = self._phase(seq)
        self._phases[phase][seq] = None
        if self._publishes and len(seq.request.keys) > seq.published:
            self._keyed[phase][seq] = None
        self._expect(seq)

    def _phase(self, seq: Sequence) -> int:
        return (seq.joined + 1 - seq.computed) % self._size

    def _expect(self, seq: Sequence) -> None:
        bucket = self._due.get(seq.due)
        if bucket is None:
            bucket = self._due[seq.due] = {}
            heappush(self._due_steps, seq.due)
        bucket[seq] = None

    def leave(self, seq: Sequence) -> None:
        """Takes a sequence out and settles its counts; its full blocks are published."""
        del self.members[seq]
        phase = self._phase(seq)
        del self._phases[phase][seq]
        self._keyed[phase].pop(seq, None)
        self._due.get(seq.due, {}).pop(seq, None)
        self.loras -= seq.request.lora is not None
        scheduled = self.step - seq.joined
        covered = seq.computed + scheduled
        self.context -= covered if self._in_flight else covered + 1
        seq.held = -(-covered // self._size) - (seq in self._ungrown)
        ran = scheduled - self._in_flight
        seq.generated += ran
        seq.computed += ran
        if self._publishes:
            self._pool.publish(seq, seq.computed // self._size)

    def begin(self) -> list[Sequence]:
        """Starts the next step; the sequences that could not get their block, oldest first."""
        self.step += 1
        self._in_flight = True
        growing = self._phases[self.step % self._size]
        if len(growing) <= self._pool.free:
            self._pool.take(len(growing))
            self._publish_keyed()
            return []
        self._ungrown.update(growing)
        return sorted(growing, key=lambda seq: seq.rank)

    def grow(self, seq: Sequence) -> None:
        """Gives one sequence that `begin` named its block, which must be free."""
        self._pool.take(1)
        self._ungrown.discard(seq)
        self._publish(seq)

    def _publish_keyed(self) -> None:
        for seq in self._keyed[self.step % self._size]:
            self._publish(seq)

    def _publish(self, seq: Sequence) -> None:
        if not self._publishes:
            return
        covered = seq.computed + self.step - seq.joined
        self._pool.publish(seq, (covered - 1) // self._size)

    def end(self) -> list[Sequence]:
        """Ends the step in flight; the sequences whose last token it produced."""
        self._in_flight = False
        self._ungrown.clear()
        self.context += len(self.members)
        return list(self._due.pop(self.step, ()))

    def cancel(self) -> None:
        """Takes back a step that `begin` started and that computed nothing."""
        self._in_flight = False
        self._ungrown.clear()

    def steps_before_a_finish(self) -> int:
        """Steps that may pass before the one in which somebody finishes."""
        while self._due_steps and self._due_steps[0] <= self.step:
            heappop(self._due_steps)
        return self._due_steps[0] - self.step - 1 if self._due_steps else 0

    def growth(self, steps: int) -> int:
        """Blocks that the next `steps` steps need."""
        laps, rest = divmod(steps, self._size)
        partial = sum(len(self._phases[(self.step + i) % self._size]) for i in range(1, rest + 1))
        return laps * len(self.members) + partial

    def leap(self, steps: int) -> None:
        """Runs that many steps at once; `growth(steps)` blocks must be free, nobody may finish."""
        self._pool.take(self.growth(steps))
        first = self.step + 1
        self.step += steps
        self.context += steps * len(self.members)
        for offset in range(min(steps, self._size)):
            for seq in self._keyed[(first + offset) % self._size]:
                self._publish(seq)
