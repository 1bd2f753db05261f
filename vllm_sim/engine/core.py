"""One replica, step by step, as vLLM's V1 scheduler runs it.

A step: `schedule.py` says who computes what, then everybody shares the step's duration. `start`
decides and gives the time of its end, `finish` applies it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from vllm_sim.engine.leap import affordable_steps, can_leap, time_to_change
from vllm_sim.engine.power import Power, Tag
from vllm_sim.engine.schedule import Scheduler
from vllm_sim.engine.sequence import Request, Sequence, State, StepResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_sim.engine.blocks import KVEvent
    from vllm_sim.engine.config import EngineConfig


class Engine(Scheduler):
    """A replica under the caller's clock; times are seconds and never run backwards.

    Drive it either by `start(now)` and `finish()`, which a server does, or by `advance(until)`,
    which runs all steps up to a time and leaps over runs of pure decode.
    """

    def __init__(self, config: EngineConfig, *, ready_at: float = 0.0) -> None:
        super().__init__(config)
        self.power = Power(config.profile, ready_at)
        self._order = 0
        self._begun = 0.0
        self._end: float | None = None
        self._draining = False
        self.slowdown = 1.0

    # What it shows.

    @property
    def num_running(self) -> int:
        return len(self.running)

    @property
    def num_deferred(self) -> int:
        """Waiting for KV from elsewhere rather than for room."""
        return self.transfers.fetching + len(self._arrived)

    @property
    def num_waiting(self) -> int:
        return len(self.waiting) + self.num_deferred

    @property
    def kv_usage(self) -> float:
        """Share of blocks held by living sequences, 0 to 1; cached but unheld ones are free."""
        return 1.0 - self.pool.free / self.pool.capacity

    @property
    def busy_until(self) -> float | None:
        """The end of the step in flight."""
        return self._end

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self._live

    def live(self, request_id: str) -> Sequence | None:
        """The sequence of that id while it lives."""
        return self._live.get(request_id)

    def drain_events(self) -> list[KVEvent]:
        """KV events since the last call, in order."""
        log = self.pool.log
        if log:
            self.pool.log = []
        return log

    # What it is told.

    def add(self, request: Request, now: float) -> Sequence:
        """Queues a request. ValueError: the id lives already, or it can never fit."""
        if self._draining:
            raise ValueError("the engine drains and takes no new request")
        if request.id in self._live:
            raise ValueError(f"request id {request.id!r} is in use")
        tokens = request.prompt_tokens + max(request.output_tokens - 1, 0)
        if -(-tokens // self._size) > self.pool.capacity:
            raise ValueError(f"{tokens} tokens exceed the KV cache of this replica")
        if request.lora is not None and not self.config.max_loras:
            raise ValueError("LoRA is off: max_loras is 0")
        self._order += 1
        seq = Sequence(request, now, self._order)
        self._live[request.id] = seq
        self.waiting.push(seq)
        self.stats.added += 1
        self.quiet = False
        return seq

    def abort(self, request_id: str, now: float | None = None) -> Sequence | None:
        """Drops a request and frees its blocks; None when it is not alive."""
        seq = self._live.pop(request_id, None)
        if seq is None:
            return None
        if seq.state is State.WAITING and seq not in self._arrived:
            self.waiting.discard(seq)
        elif seq.state is State.FETCHING:
            self.transfers.abandon(seq)
        elif seq in self._arrived:
            self._arrived.remove(seq)
        else:
            self._leave(seq)
        self.pool.release(seq)
        seq.state = State.ABORTED
        seq.finished_at = self.clock if now is None else now
        self.stats.aborted += 1
        self.quiet = False
        return seq

    def drain(self) -> None:
        """Takes no new requests from now on; those inside run to their end."""
        self._draining = True

    def release_pin(self, request_id: str) -> bool:
        """Frees blocks that a remote decoder has read."""
        seq = self.transfers.unpin(request_id)
        if seq is None:
            return False
        self.pool.release(seq)
        self.quiet = False
        return True

    def reset_prefix_cache(self) -> bool:
        """Forgets cached blocks; False while any block is held."""
        return self.pool.clear()

    def sleep(self, level: int, now: float) -> None:
        """Stops scheduling; from level 1 the step in flight and all KV are lost too.

        Running requests are preempted then, and start again when it is awake.
        """
        self.power.sleep(level)
        self.quiet = False
        if level == 0:
            return
        for seq in reversed(list(self.running)):
            self._preempt(seq)
        self._drop_step()
        for seq in list(self._arrived):
            self._forget_fetch(seq)
        for pinned in list(self.transfers.pins):
            self.release_pin(pinned)
        self.pool.clear()

    def wake(self, tags: Iterable[Tag], now: float) -> None:
        """Wakes; loading weights takes time, during which requests wait."""
        self.power.wake(tags, now)
        self.quiet = False

    def _drop_step(self) -> None:
        if self._end is not None:
            self.batch.cancel()
            self._end = None

    def _forget_fetch(self, seq: Sequence) -> None:
        self._arrived.remove(seq)
        self.pool.release(seq)
        seq.computed = 0
        seq.preemptions += 1
        self.waiting.push_front(seq)

    # The step.

    def start(self, now: float) -> float | None:
        """Begins a step at `now` unless one is in flight; its end, or None when nothing can run."""
        if self._end is not None:
            return self._end
        self.clock = max(self.clock, now)
        self._settle_transfers()
        awake_at = self.power.awake_at(self.clock)
        if awake_at is None or awake_at > self.clock:
            return None
        if not self.running and not self.num_waiting:
            return None
        if not self._schedule() and not (self._preempted and self._schedule()):
            return None
        self._begun = self.clock
        self._end = self.clock + self._duration_s()
        return self._end

    def idle_until(self) -> float | None:
        """When `start` may succeed without further input: a wake, a fetch, a lease."""
        times = [self.transfers.next_time()]
        if self.num_waiting or self.running:
            awake_at = self.power.awake_at(self.clock)
            times.append(awake_at if awake_at and awake_at > self.clock else None)
        return min((at for at in times if at is not None), default=None)

    def finish(self) -> StepResult:
        """Applies the step in flight; the clock stands at its end. RuntimeError without one."""
        if self._end is None:
            raise RuntimeError("no step is in flight")
        result = StepResult(self._begun, self._end, preempted=self._preempted)
        self.clock, self._end = self._end, None
        self._finish_decodes(result)
        self._finish_chunks(result)
        self.stats.steps += 1
        self.stats.generation_tokens += result.sampled
        return result

    def step(self, now: float) -> StepResult | None:
        """One whole step from `now`, or None when nothing can run."""
        return None if self.start(now) is None else self.finish()

    def advance(self, until: float) -> list[Sequence]:
        """Runs every step that ends by `until`; the sequences that finished, in order.

        A step still in flight at `until` stays so: an arrival then waits for its end, as it does on
        a GPU.
        """
        done: list[Sequence] = []
        while True:
            if self._end is None:
                self._leap(until)
                if self.clock >= until and can_leap(self):
                    return done
                if self.start(self.clock) is None:
                    wake = self.idle_until()
                    if wake is None or wake > until:
                        self.clock = max(self.clock, until) if until < inf else self.clock
                        return done
                    self.clock = max(self.clock, wake)
                    continue
            if self._end is None or self._end > until:
                return done
            done += self.finish().finished

    def next_event(self) -> float | None:
        """When to call `advance` next if nothing is added before; None while it rests.

        Never later than the end of the step in which the next sequence finishes, so a caller that
        reacts to finishes loses none: keep engines in a heap by this time.
        """
        if self._end is not None:
            return self._end
        if not self.running and not self.num_waiting:
            return self.transfers.next_time()
        if not self.quiet:
            return self.power.awake_at(self.clock)
        if not self.batch.members:
            return self.idle_until()
        waits_until = self.transfers.next_time()
        return min(self.clock + time_to_change(self), inf if waits_until is None else waits_until)

    # The end of a step.

    def _finish_decodes(self, result: StepResult) -> None:
        result.decoded = result.sampled = result.tokens = len(self.batch)
        if self.config.report_tokens:
            result.emitted = list(self.batch.members)
        for seq in self.batch.end():
            self._complete(seq, result)

    def _finish_chunks(self, result: StepResult) -> None:
        for seq, new in self._chunks.items():
            if seq.state is not State.PREFILL:
                continue
            result.tokens += new
            seq.computed += new
            if seq.computed == seq.total:
                del self._prefill[seq]
                self._sample_first(seq, result)

    def _sample_first(self, seq: Sequence, result: StepResult) -> None:
        if seq.first_token_at < 0:
            seq.first_token_at = self.clock
            self.stats.prompt_tokens += seq.request.prompt_tokens
            result.first.append(seq)
        if seq.request.output_tokens:
            seq.generated += 1
            result.sampled += 1
            result.emitted.append(seq)
        if seq.generated >= seq.request.output_tokens:
            self._complete(seq, result)
        else:
            self.batch.join(seq)

    # Time.

    def _duration_s(self) -> float:
        profile = self.config.profile
        decodes = len(self.batch)
        tokens, context, attention, single = decodes, self.batch.context, 0.0, 0
        for seq, new in self._chunks.items():
            tokens += new
            if new == 1:
                context += seq.computed
                single += 1
            else:
                attention += new * seq.computed + new * new / 2
        weights = max(profile.w0 + profile.w1 * tokens, profile.p0 + profile.p1 * tokens)
        busy = weights + profile.pair * attention + profile.kv * context
        busy += profile.seq * (decodes + single) + profile.d0
        busy += profile.d1 * (decodes + len(self._chunks))
        if self.batch.loras or any(seq.request.lora for seq in self._chunks):
            busy *= 1 + profile.lora_overhead
        return busy * self.slowdown / 1000 + self._load_s

    def _leap(self, until: float) -> None:
        """Passes over steps of pure decode in closed form, while nothing else can happen."""
        if not self.quiet or not self.batch.members:
            return
        steps, duration = affordable_steps(self, until - self.clock)
        if steps < 1:
            return
        waits_until = self.transfers.next_time()
        if waits_until is not None and waits_until <= self.clock + duration:
            return
        self.batch.leap(steps)
        self.clock += duration
        self.stats.steps += steps
        self.stats.generation_tokens += steps * len(self.batch)
