"""Who computes in the next step: admission, chunks, blocks, preemption.

Running sequences come first (one token for each decode, a chunk for each unfinished prefill),
preempting from the end when blocks run out; then, if nobody was preempted, waiting ones while the
token budget, the sequence limit, the LoRA slots and the free blocks allow.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from vllm_sim.engine.blocks import BlockPool
from vllm_sim.engine.decode import DecodeBatch
from vllm_sim.engine.loras import LoraSlots
from vllm_sim.engine.sequence import Sequence, State
from vllm_sim.engine.stats import EngineStats
from vllm_sim.engine.transfer import Transfers
from vllm_sim.engine.waiting import WaitingQueue

if TYPE_CHECKING:
    from vllm_sim.engine.config import EngineConfig
    from vllm_sim.engine.sequence import StepResult


class Scheduler:
    """The sequences of one replica and the blocks they hold; `clock` is set by who steps it."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.stats = EngineStats()
        self.clock = 0.0
        self.pool = BlockPool(config.blocks - 1, record=config.record_events)
        self.waiting = WaitingQueue(by_priority=config.policy == "priority")
        self.running: dict[Sequence, None] = {}
        self.batch = DecodeBatch(
            config.block_size, self.pool, publishes=config.enable_prefix_caching
        )
        profile = config.profile
        self.loras = LoraSlots(
            config.max_loras, config.cpu_loras, profile.lora_load_s, profile.lora_disk_s
        )
        self.transfers = Transfers(config.kv_lease_s)
        self._size = config.block_size
        self._seqs = config.seqs
        self._budget = config.token_budget
        self._arrived: deque[Sequence] = deque()
        self._live: dict[str, Sequence] = {}
        self._prefill: dict[Sequence, None] = {}
        self._chunks: dict[Sequence, int] = {}
        self._rank = 0
        self._load_s = 0.0
        self._preempted = 0
        self.quiet = False

    # Scheduling.

    def _schedule(self) -> bool:
        self._chunks = {}
        self._load_s = 0.0
        self._preempted = 0
        for seq in self.batch.begin():
            self._grow(seq)
        budget = self._continue_prefills(self._budget - len(self.batch))
        if not self._preempted:
            self._admit(budget)
        self.quiet = not self._chunks and not self._preempted
        if not self._chunks and not self.batch.members:
            self.batch.cancel()
            return False
        return True

    def _grow(self, seq: Sequence) -> None:
        """A block for one decode, taken from the sequences at the end if need be."""
        while seq.state is State.DECODE:
            if self.pool.free:
                self.batch.grow(seq)
                return
            self._preempt(self._victim())

    def _continue_prefills(self, budget: int) -> int:
        for seq in list(self._prefill):
            if seq.state is not State.PREFILL:
                continue
            new = self._chunk(seq.total - seq.computed, budget)
            if new and self._make_room(seq, new):
                self._schedule_chunk(seq, new)
                budget -= new
        return self._budget - len(self.batch) - sum(self._chunks.values())

    def _chunk(self, remaining: int, budget: int) -> int:
        threshold = self.config.long_prefill_token_threshold
        return max(min(remaining, budget, threshold or remaining), 0)

    def _make_room(self, seq: Sequence, new: int) -> bool:
        missing = -(-(seq.computed + new) // self._size) - seq.held
        while missing > self.pool.free:
            victim = self._victim()
            self._preempt(victim)
            if victim is seq:
                return False
        return True

    def _schedule_chunk(self, seq: Sequence, new: int) -> None:
        """Allocates and plans `new` tokens; their full blocks can be found from now on."""
        reach = seq.computed + new
        missing = -(-reach // self._size) - seq.held
        if missing > 0:
            self.pool.take(missing)
            seq.held += missing
        if self.config.enable_prefix_caching:
            self.pool.publish(seq, reach // self._size)
        self._chunks[seq] = new

    def _admit(self, budget: int) -> None:
        while budget > 0 and len(self.running) < self._seqs:
            fetched = self._fetched()
            if fetched is not None:
                self._arrived.remove(fetched)
                self._enter(fetched, 1)
                budget -= 1
                continue
            head = self.waiting.head(self.loras.allows)
            if head is None:
                return
            new = self._place(head, budget)
            if new < 0:
                return
            budget -= new

    def _fetched(self) -> Sequence | None:
        """The first sequence whose KV is here and whose adapter may run."""
        allows = self.loras.allows
        return next((seq for seq in self._arrived if allows(seq.request.lora)), None)

    def _place(self, seq: Sequence, budget: int) -> int:
        """Admits the head of the queue; the tokens it takes of the step, -1 when it must wait."""
        keys = seq.request.keys
        hit = self._lookup(seq)
        cached = hit * self._size
        fetch = self._fetches(seq)
        new = self._chunk(seq.total - cached, budget)
        whole = fetch or self.config.reserve_full_isl
        blocks = -(-(self._final_tokens(seq) if whole else cached + new) // self._size) - hit
        if blocks + self.pool.idle_among(keys, hit) > self.pool.free:
            return -1
        self.waiting.pop(seq)
        self.pool.claim(keys, hit)
        seq.held = seq.published = hit
        seq.computed = cached
        self._count_lookup(seq, cached)
        if fetch:
            self._fetch(seq, blocks)
            return 0
        self._enter(seq, new)
        return new

    def _fetches(self, seq: Sequence) -> bool:
        """Whether its prompt's KV comes from another replica; after a preemption it does not."""
        return seq.request.remote and not seq.preemptions

    def _final_tokens(self, seq: Sequence) -> int:
        """Tokens whose blocks must be free before it may enter."""
        return seq.total

    def _lookup(self, seq: Sequence) -> int:
        """Blocks found in the cache; the last token is always computed."""
        if not self.config.enable_prefix_caching:
            return 0
        return self.pool.match(seq.request.keys, (seq.total - 1) // self._size)

    def _count_lookup(self, seq: Sequence, cached: int) -> None:
        if seq.cached_tokens < 0:
            seq.cached_tokens = cached
            self.stats.prefix_queries += seq.total
            self.stats.prefix_hits += cached

    def _enter(self, seq: Sequence, new: int) -> None:
        self._rank += 1
        seq.rank = self._rank
        seq.state = State.PREFILL
        if seq.scheduled_at < 0:
            seq.scheduled_at = self.clock
        self.running[seq] = None
        self._prefill[seq] = None
        lora = seq.request.lora
        if lora is not None:
            loading = self.loras.enter(lora)
            self._load_s += loading
            self.stats.lora_loads += loading > 0
        self._schedule_chunk(seq, new)

    def _fetch(self, seq: Sequence, blocks: int) -> None:
        remote_tokens = seq.total - seq.computed
        self.pool.take(blocks)
        seq.held += blocks
        self.stats.external_queries += remote_tokens
        self.stats.external_hits += remote_tokens
        self.transfers.fetch(seq, self.clock + self.config.profile.transfer_s(remote_tokens))

    def _settle_transfers(self) -> None:
        for seq in self.transfers.expired(self.clock):
            self.pool.release(seq)
            self.stats.leases_expired += 1
        for seq in self.transfers.arrived(self.clock):
            seq.state = State.WAITING
            seq.computed = seq.total - 1
            self._arrived.append(seq)
            self.quiet = False

    # Preemption and leaving.

    def _victim(self) -> Sequence:
        """fcfs: the last that was admitted; priority: the least urgent, then the youngest."""
        if self.config.policy == "fcfs":
            return next(reversed(self.running))
        return max(self.running, key=lambda seq: (seq.request.priority, seq.arrival, seq.rank))

    def _preempt(self, seq: Sequence) -> None:
        self._leave(seq)
        self.pool.release(seq)
        self._chunks.pop(seq, None)
        seq.computed = 0
        seq.preemptions += 1
        self._preempted += 1
        self.stats.preemptions += 1
        self.waiting.push_front(seq)

    def _leave(self, seq: Sequence) -> None:
        if seq.state is State.DECODE:
            self.batch.leave(seq)
        else:
            self._prefill.pop(seq, None)
        del self.running[seq]
        if seq.request.lora is not None:
            self.loras.leave(seq.request.lora)

    def _complete(self, seq: Sequence, result: StepResult) -> None:
        self._leave(seq)
        seq.state = State.FINISHED
        seq.finished_at = self.clock
        del self._live[seq.request.id]
        if seq.request.hold:
            self.transfers.pin(seq, self.clock)
        else:
            self.pool.release(seq)
        self.stats.finished += 1
        result.finished.append(seq)
        self.quiet = False
