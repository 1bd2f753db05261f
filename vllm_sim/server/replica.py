"""One engine under the wall clock: the task that steps it and hands its tokens out."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from dataclasses import replace
from math import inf
from time import time
from typing import TYPE_CHECKING

from vllm_sim import hashing
from vllm_sim.engine import Engine, PacedEngine, Request, profile_named
from vllm_sim.kvevents.encode import encode_batch
from vllm_sim.metrics.cache import CacheShape, cache_settings
from vllm_sim.metrics.page import Gauges, LoraInfo, Page
from vllm_sim.metrics.record import FINISH_REASONS, Record
from vllm_sim.server.errors import ApiError
from vllm_sim.server.generation import Generation, Job, Listener

if TYPE_CHECKING:
    from collections.abc import Collection

    from vllm_sim.engine import Pacing, Sequence, StepResult
    from vllm_sim.kvevents.publisher import Publisher
    from vllm_sim.metrics.fake import FakeMetrics
    from vllm_sim.options import SimOptions
    from vllm_sim.server.clock import SimClock

CATCH_UP_S = 0.05
"""Real seconds the engine may lag behind the clock and still start a step at its own time."""
LORA_SERIES = 16


def _sent_as(generation: Generation) -> str:
    """The request's id without the number that tells its choices apart."""
    return generation.job.request_id.rpartition("-")[0]


class Replica:
    """Owns one engine. Everything runs in one task, so nothing here needs a lock."""

    def __init__(self, options: SimOptions, clock: SimClock, publisher: Publisher | None) -> None:
        self.options = options
        self.clock = clock
        self.publisher = publisher
        self.rank = max(options.data_parallel_rank, 0)
        self.version = options.vllm_version
        self.model_len = options.model_len
        self.engine_id = str(uuid.uuid4())
        self.pacing = options.pacing
        self._profile = ""
        self.engine = self._new_engine(clock.now() + options.startup_s)
        self.record = Record(self.model_len)
        self.stalled = False
        self.skew_s = 0.0
        self.fakes = options.fakes
        self.faked_at = clock.now()
        self._open: set[Generation] = set()
        self._lora_infos: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], float]
        self._lora_infos = OrderedDict()
        self._wake = asyncio.Event()
        self._none_hash = self._seeded()

    def _new_engine(self, ready_at: float) -> Engine:
        config = self.options.engine_config()
        if self._profile:
            config = config.with_profile(profile_named(self._profile))
        if self.pacing is None:
            return Engine(config, ready_at=ready_at)
        return PacedEngine(config, self.pacing, seed=self.options.seed, ready_at=ready_at)

    def _seeded(self) -> bytes:
        return hashing.none_hash(self.options.hash_seed or hashing.DEFAULT_SEED)

    @property
    def ready(self) -> bool:
        """Past its start-up time."""
        return self.clock.now() >= self.engine.power.ready_at or self.engine.power.sleeping

    @property
    def open_requests(self) -> int:
        return len(self._open)

    # Requests.

    def submit(self, job: Job, listener: Listener | None = None) -> Generation:
        """Queues the job; its tokens come through the listener, its end through `done`.

        ApiError: the queue is full, or the prompt can never fit.
        """
        self._check_room(job)
        generation = Generation(job, listener)
        keys = self.keys_of(job)
        if self._below_threshold(job, keys):
            generation.end("cache_threshold")
            return generation
        request = Request(
            id=job.request_id,
            prompt_tokens=len(job.prompt),
            output_tokens=len(job.answer),
            keys=keys,
            priority=job.priority,
            lora=job.lora,
            hold=job.hold,
            remote=job.kv_source is not None,
            tag=generation,
        )
        try:
            generation.seq = self.engine.add(request, self.clock.now())
        except ValueError as error:
            raise ApiError(400, str(error)) from error
        self._open.add(generation)
        self._start()
        # On a busy machine the request may be over before the loop comes round.
        self._note_loras()
        self._wake.set()
        return generation

    def _check_room(self, job: Job) -> None:
        options, waiting = self.options, self.engine.num_waiting
        if options.waiting_limit and waiting >= options.waiting_limit:
            raise ApiError(429, "Too many requests are waiting in the queue.")
        if options.max_queued_requests and waiting >= options.max_queued_requests:
            self.record.rejections["max_num_queued_reqs"] += 1
            raise ApiError(503, "The server is overloaded: too many queued requests.")
        if options.max_queued_tokens:
            queued = sum(
                len(generation.job.prompt)
                for generation in self._open
                if generation.seq and generation.seq.scheduled_at < 0
            )
            if queued + len(job.prompt) > options.max_queued_tokens:
                self.record.rejections["max_num_queued_tokens"] += 1
                raise ApiError(503, "The server is overloaded: too many queued tokens.")

    def keys_of(self, job: Job) -> list[int]:
        """Block hashes of prompt and answer, as vLLM would compute them."""
        if not self.options.prefix_caching:
            return []
        tagged = self.version.within((0, 31))
        lora: tuple[object, ...] = ()
        if job.lora is not None:
            lora = (("lora", job.lora, job.lora_path),) if tagged else (job.lora,)
        salt: tuple[object, ...] = ()
        if job.salt is not None:
            salt = (("cache_salt", job.salt),) if tagged else (job.salt,)
        tokens = [*job.prompt, *job.answer[:-1]]
        return hashing.block_keys(
            tokens, self.options.block_size, parent=self._none_hash, lora=lora, salt=salt
        )

    def _below_threshold(self, job: Job, keys: list[int]) -> bool:
        threshold = job.cache_hit_threshold or self.options.cache_hit_threshold
        if threshold <= 0:
            return False
        size = self.options.block_size
        hit = self.engine.pool.match(keys, (len(job.prompt) - 1) // size) * size
        return hit / len(job.prompt) < threshold

    def abort(self, generation: Generation) -> None:
        """Drops a request whose client is gone."""
        if generation not in self._open:
            return
        seq = self.engine.abort(generation.job.request_id, self.clock.now())
        if seq is not None:
            self._closed(generation, "abort")
        self._wake.set()

    def abort_all(self, names: Collection[str] = ()) -> int:
        """Drops every request, or those that were sent with one of the ids; how many there were."""
        victims = [one for one in self._open if not names or _sent_as(one) in names]
        for generation in victims:
            self.abort(generation)
        return len(victims)

    def _closed(self, generation: Generation, reason: str) -> None:
        self._open.discard(generation)
        if generation.seq is not None:
            counted = reason if reason in FINISH_REASONS else "length"
            self.record.end(generation.seq, counted, generation.job.max_tokens)
        generation.end(reason)

    # Power and restarts.

    async def sleep(self, level: int, mode: str) -> None:
        """mode `abort` ends what is open, `wait` lets it finish first, `keep` starts it again."""
        if mode == "abort":
            self.abort_all()
        elif mode == "wait":
            await self.drained(self.options.drain_s)
        self.engine.sleep(level, self.clock.now())
        self._wake.set()

    def restart(self) -> None:
        """A new engine: nothing cached, nothing open, a new id, event numbers from zero again."""
        self.abort_all()
        self.engine_id = str(uuid.uuid4())
        self.engine = self._new_engine(self.clock.now())
        self.record = Record(self.model_len)
        if self.publisher is not None:
            self.publisher.restart()
        self._wake.set()

    def retime(self, pacing: Pacing | None, profile: str | None) -> None:
        """Other latencies, or another profile's step times, from the next token or step on; sizes
        stay. `pacing` None: the engine model goes on, `profile` None: the same one."""
        self.pacing = pacing
        self._profile = profile or self._profile
        engine = self.engine
        if isinstance(engine, PacedEngine) and pacing is not None:
            engine.pacing = pacing
        if profile:
            engine.config = engine.config.with_profile(profile_named(profile))
        self._wake.set()

    def release_kv(self) -> None:
        """All KV is lost, as in a sleep of level 1; weights stay, so that waking takes no time."""
        self.engine.sleep(1, self.clock.now())
        self.engine.wake(("weights",), -inf)
        self._wake.set()

    def woken(self) -> None:
        """Something changed from outside that may let the engine run; what it did to the cache is
        told with the next step, as vLLM does."""
        self._wake.set()

    async def drained(self, seconds: float) -> bool:
        """Waits until nothing is open; False when the time was not enough."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._open and loop.time() < end:
            await asyncio.wait(
                [generation.done for generation in self._open], timeout=end - loop.time()
            )
        return not self._open

    # The loop.

    async def run(self) -> None:
        """Steps the engine for ever; one task for each replica."""
        while True:
            end = self._start()
            self._note_loras()
            await self._sleep_until(end if end is not None else self.engine.idle_until())
            due = self.engine.busy_until
            if due is not None and due <= self.clock.now() and not self.stalled:
                self._deliver(self.engine.finish())
                self._publish()

    def _start(self) -> float | None:
        """Lets the engine begin what it can; the time it wants to be heard again."""
        return None if self.stalled else self.engine.start(self._start_time())

    def _start_time(self) -> float:
        """The end of the last step where the clock is barely beyond it, so that time adds up."""
        now, engine_now = self.clock.now(), self.engine.clock
        behind = now - engine_now
        if self.engine.running and behind < CATCH_UP_S * self.clock.scale:
            return engine_now
        return now

    async def _sleep_until(self, at: float | None) -> None:
        self._wake.clear()
        if self.stalled or at is None:
            await self._wake.wait()
            return
        delay = self.clock.wall(at - self.clock.now())
        if delay <= 0:
            await asyncio.sleep(0)
            return
        timer = asyncio.get_running_loop().call_later(delay, self._wake.set)
        await self._wake.wait()
        timer.cancel()

    def _deliver(self, result: StepResult) -> None:
        for seq in result.first:
            self.record.first_token(seq)
        counted = result.tokens - result.decoded + result.sampled
        self.record.histograms["iteration_tokens_total"].observe(counted)
        gaps = self.record.histograms["inter_token_latency_seconds"]
        for seq in result.emitted:
            generation: Generation = seq.request.tag
            if generation.last_at >= 0:
                gaps.observe(result.end - generation.last_at)
            generation.last_at = result.end
            generation.advance()
        for seq in result.finished:
            self._finished(seq)

    def _finished(self, seq: Sequence) -> None:
        generation: Generation = seq.request.tag
        self._closed(generation, generation.job.finish_reason)

    def _stamp(self) -> float:
        """Unix time by the replica's own clock, which a fault may have set wrong."""
        return time() + self.skew_s

    def _publish(self) -> None:
        events = self.engine.drain_events()
        if events and self.publisher is not None:
            self.publisher.publish(
                lambda dialect: encode_batch(
                    events,
                    ts=self._stamp(),
                    rank=self.rank,
                    size=self.options.block_size,
                    dialect=dialect,
                )
            )

    # What it shows.

    def gauges(self) -> Gauges:
        engine = self.engine
        fetching = engine.transfers.fetching
        return Gauges(
            running=engine.num_running,
            waiting=engine.num_waiting,
            deferred=engine.num_deferred,
            kv_usage=engine.kv_usage,
            fetching=fetching,
            fetched=engine.num_deferred - fetching,
            sleep_level=engine.power.level,
        )

    def _note_loras(self) -> None:
        if not self.options.lora_modules and not self.engine.loras.running:
            return
        running = tuple(sorted(self.engine.loras.running))
        key = (running, tuple(self.engine.waiting.loras()))
        self._lora_infos[key] = self._stamp()
        self._lora_infos.move_to_end(key)
        while len(self._lora_infos) > LORA_SERIES:
            self._lora_infos.popitem(last=False)

    def page(self, gauges: Gauges | None = None) -> str:
        """/metrics; `gauges` replaces the true ones. Made up from end to end where it is faked."""
        fakes = self.fakes
        page = Page(self.version, self.options.names[0], self.rank, self.record.begun)
        if fakes is None:
            page.gauges(gauges or self.gauges())
            stats, record, loras = self.engine.stats, self.record, self._lora_series()
        else:
            page.gauges(fakes.gauges(self.clock.now() - self.faked_at))
            stats, record = fakes.stats(), fakes.record(self.model_len)
            loras = [replace(info, max_lora=self.options.max_loras) for info in fakes.loras]
        page.counters(stats, record)
        if self.options.nixl:
            page.leases(stats)
        page.histograms(record.histograms)
        page.cache_config(self._cache_settings())
        if loras or self.options.lora_modules:
            page.loras(loras)
        return page.text()

    def _lora_series(self) -> list[LoraInfo]:
        if not self.options.lora_modules and not self._lora_infos:
            return []
        self._note_loras()
        return [
            LoraInfo(self.options.max_loras, running, waiting, at)
            for (running, waiting), at in self._lora_infos.items()
        ]

    def fake(self, fakes: FakeMetrics | None) -> None:
        """Shows these metrics from now on, None: the true ones."""
        self.fakes, self.faked_at = fakes, self.clock.now()

    def _cache_settings(self) -> dict[str, str]:
        config = self.engine.config
        return cache_settings(
            self.version,
            CacheShape(
                block_size=config.block_size,
                blocks=config.blocks,
                overridden=self.options.kv_blocks,
                caching=config.enable_prefix_caching,
                model_len=self.model_len,
            ),
        )
