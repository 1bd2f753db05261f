"""One replica of the pool: an engine in virtual time, what it reports and what it lets others know.

The engine steps only when something may have changed (`Engine.next_event`), so a replica that
decodes costs nothing between two events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from epp.datastore import LoraState, Sample
from epp.domain.endpoint import Endpoint
from epp_lab.agenda import Agenda
from vllm_sim.engine import Engine, EngineConfig, Request, Sequence

RAW: Final = ("raw_waiting", "raw_running")
"""Columns with the gauges as scraped, for baselines that do not correct them."""


class Replica:
    """`first` is told of each sequence that had its first token, `last` of each that finished."""

    def __init__(
        self,
        endpoint: Endpoint,
        config: EngineConfig,
        agenda: Agenda,
        first: Callable[[Sequence], None],
        last: Callable[[Sequence], None],
    ) -> None:
        self.endpoint = endpoint
        self.engine = Engine(config, ready_at=agenda.now)
        self._config = config
        self._agenda = agenda
        self._first = first
        self._last = last
        self._unheard: dict[Sequence, None] = {}
        self._due = math.inf

    def receive(self, request: Request) -> Sequence:
        """Take a request now. Raises ValueError if it can never fit."""
        self._advance()
        seq = self.engine.add(request, self._agenda.now)
        self._unheard[seq] = None
        self._expect()
        return seq

    def set_speed(self, factor: float) -> None:
        """From the next step on, `factor` times as fast as its profile says."""
        self.engine.slowdown = 1.0 / factor

    def cached_tokens(self, keys: list[int], prompt_tokens: int) -> int:
        """Tokens of a prompt that the engine would find in its cache at this moment."""
        size = self._config.block_size
        return self.engine.pool.match(keys, (prompt_tokens - 1) // size) * size

    def sample(self) -> Sample:
        """What its metrics page says now."""
        self._advance()
        engine, stats = self.engine, self.engine.stats
        waiting, running = engine.num_waiting, engine.num_running
        busy = waiting or running
        return Sample(
            waiting=waiting,
            running=running,
            kv_usage=engine.kv_usage,
            lora=self._loras(),
            kv_blocks=self._config.blocks,
            block_size=self._config.block_size,
            prefilled_tokens=stats.prompt_tokens - stats.prefix_hits if busy else math.nan,
            generated_tokens=stats.generation_tokens if busy else math.nan,
            custom={"raw_waiting": waiting, "raw_running": running},
        )

    def _loras(self) -> LoraState:
        if not self._config.max_loras:
            return LoraState()
        return LoraState(
            running=frozenset(self.engine.loras.running),
            waiting=frozenset(self.engine.waiting.loras()),
            max_adapters=self._config.max_loras,
        )

    def _advance(self) -> None:
        done = self.engine.advance(self._agenda.now)
        if self._unheard:
            for seq in [seq for seq in self._unheard if seq.first_token_at >= 0]:
                del self._unheard[seq]
                self._first(seq)
        for seq in done:
            self._last(seq)

    def _expect(self) -> None:
        """Be woken when the engine may have something to tell; an earlier call stands in for it."""
        at = self.engine.next_event()
        if at is None:
            self._due = math.inf
            return
        at = max(at, self._agenda.now)
        if at != self._due:
            self._due = at
            self._agenda.put(at, self._wake, at)

    def _wake(self, due: Any) -> None:
        if due != self._due:
            return
        self._due = math.inf
        self._advance()
        self._expect()
