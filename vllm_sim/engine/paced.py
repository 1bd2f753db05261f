"""Constant latencies: every running request sleeps for itself, whatever the others do.

The Go simulator's timing model, for command lines and tests that give its latency flags. Queue,
sequence limit, prefix cache, LoRA slots and sleep are the engine's own; blocks for the whole answer
are taken at admission, so nothing is ever preempted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Literal

from vllm_sim.engine.core import Engine
from vllm_sim.engine.sequence import Sequence, State, StepResult

if TYPE_CHECKING:
    from vllm_sim.engine.config import EngineConfig

COALESCE_S = 0.0005
"""Tokens due within this time of each other leave together."""
MAX_DEVIATION = 0.3


@dataclass(frozen=True, slots=True)
class Pacing:
    """Means and standard deviations in seconds; draws stay within 0.3 to 1.7 of the mean.

    First token: `ttft`, or `prefill_overhead + uncached * prefill_per_token` when the calculator is
    `per-token`; for KV computed elsewhere the transfer time instead. `load_factor` is what all but
    the transfer grow by when `max_num_seqs` requests run.
    """

    calculator: Literal["", "constant", "per-token"] = ""
    ttft: float = 0.0
    ttft_std: float = 0.0
    itl: float = 0.0
    itl_std: float = 0.0
    prefill_overhead: float = 0.0
    prefill_per_token: float = 0.0
    prefill_std: float = 0.0
    transfer: float = 0.0
    transfer_std: float = 0.0
    transfer_per_token: float = 0.0
    transfer_per_token_std: float = 0.0
    load_factor: float = 1.0

    def check(self) -> None:
        """ValueError names the deviation that is above 30 % of its mean."""
        pairs = {
            "time-to-first-token": (self.ttft, self.ttft_std),
            "inter-token-latency": (self.itl, self.itl_std),
            "kv-cache-transfer-latency": (self.transfer, self.transfer_std),
            "kv-cache-transfer-time-per-token": (
                self.transfer_per_token,
                self.transfer_per_token_std,
            ),
        }
        for name, (mean, std) in pairs.items():
            if std > MAX_DEVIATION * mean + 1e-12:
                flag = name.removesuffix("-per-token") + "-std-dev"
                raise ValueError(f"{flag} must not be above 30 % of {name}")

    @property
    def constant(self) -> bool:
        return self.calculator == "constant" or (
            self.calculator == "" and (self.ttft > 0 or self.ttft_std > 0)
        )


class PacedEngine(Engine):
    """An engine whose token times are drawn, one request at a time, from `pacing`."""

    def __init__(
        self, config: EngineConfig, pacing: Pacing, *, seed: int = 0, ready_at: float = 0.0
    ) -> None:
        super().__init__(replace(config, reserve_full_isl=True), ready_at=ready_at)
        self.pacing = pacing
        self._random = Random(seed)
        self._events: list[tuple[float, int, Sequence]] = []

    def start(self, now: float) -> float | None:
        """Admits what may run; the time of the next token, or None while nobody runs."""
        self.clock = max(self.clock, now)
        self._settle_transfers()
        awake_at = self.power.awake_at(self.clock)
        if awake_at is not None and awake_at <= self.clock:
            self._chunks = {}
            self._admit(1 << 60)
            for seq in self._chunks:
                self._expect(seq, self._first_delay(seq))
        self._end = self._next_event()
        return self._end

    def finish(self) -> StepResult:
        """Gives the tokens that are due. RuntimeError when none is on its way."""
        if self._end is None:
            raise RuntimeError("no token is on its way")
        end, self._end = max(self._end, self.clock), None
        result = StepResult(self.clock, end)
        self.clock = end
        while (due := self._next_event()) is not None and due <= end + COALESCE_S:
            self._token(heappop(self._events)[2], result)
        self.stats.steps += 1
        self.stats.generation_tokens += result.sampled
        return result

    def _next_event(self) -> float | None:
        events = self._events
        while events and events[0][2].state not in (State.PREFILL, State.DECODE):
            heappop(events)
        return events[0][0] if events else None

    def _expect(self, seq: Sequence, delay: float) -> None:
        heappush(self._events, (self.clock + delay * self.slowdown, seq.rank, seq))

    def _token(self, seq: Sequence, result: StepResult) -> None:
        if seq.state is State.PREFILL:
            self._first_token(seq, result)
        else:
            seq.computed += 1
            result.decoded += 1
            result.tokens += 1
        if seq.request.output_tokens:
            seq.generated += 1
            result.sampled += 1
            result.emitted.append(seq)
        if seq.generated >= seq.request.output_tokens:
            if self.config.enable_prefix_caching:
                self.pool.publish(seq, seq.computed // self._size)
            self._complete(seq, result)
        else:
            self._expect(seq, self._draw(self.pacing.itl, self.pacing.itl_std) * self._load())

    def _first_token(self, seq: Sequence, result: StepResult) -> None:
        seq.state = State.DECODE
        del self._prefill[seq]
        result.tokens += seq.total - seq.computed
        seq.computed = seq.total
        if seq.first_token_at < 0:
            seq.first_token_at = self.clock
            result.first.append(seq)
            self.stats.prompt_tokens += seq.request.prompt_tokens

    def _leave(self, seq: Sequence) -> None:
        if seq.state is State.DECODE:
            seq.state = State.PREFILL
        super()._leave(seq)

    def _preempt(self, seq: Sequence) -> None:
        super()._preempt(seq)
        self._events = [event for event in self._events if event[2] is not seq]
        heapify(self._events)

    def _drop_step(self) -> None:
        self._end = None

    def _leap(self, until: float) -> None:
        """Nothing to leap over: token times are drawn one by one."""

    def _fetches(self, seq: Sequence) -> bool:
        return False

    def _final_tokens(self, seq: Sequence) -> int:
        return seq.request.prompt_tokens + max(seq.request.output_tokens - 1, 0)

    def _schedule_chunk(self, seq: Sequence, new: int) -> None:
        missing = -(-self._final_tokens(seq) // self._size) - seq.held
        self.pool.take(missing)
        seq.held += missing
        if self.config.enable_prefix_caching:
            self.pool.publish(seq, seq.request.prompt_tokens // self._size)
        self._chunks[seq] = new

    def _first_delay(self, seq: Sequence) -> float:
        pacing, uncached = self.pacing, seq.request.prompt_tokens - seq.computed
        if seq.request.remote:
            return self._transfer_delay(seq.request.prompt_tokens)
        if pacing.constant:
            return self._draw(pacing.ttft, pacing.ttft_std) * self._load()
        mean = pacing.prefill_overhead + uncached * pacing.prefill_per_token
        return self._draw(mean, pacing.prefill_std) * self._load()

    def _transfer_delay(self, tokens: int) -> float:
        pacing = self.pacing
        if pacing.transfer or pacing.transfer_std:
            return self._draw(pacing.transfer, pacing.transfer_std)
        return self._draw(tokens * pacing.transfer_per_token, pacing.transfer_per_token_std)

    def _load(self) -> float:
        """1 for one running request, `load_factor` for `max_num_seqs` of them."""
        if self._seqs <= 1:
            return 1.0
        return 1 + (self.pacing.load_factor - 1) * (len(self.running) - 1) / (self._seqs - 1)

    def _draw(self, mean: float, std: float) -> float:
        if std <= 0:
            return mean
        return min(max(self._random.gauss(mean, std), 0.3 * mean), 1.7 * mean)
