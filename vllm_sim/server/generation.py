"""One answer on its way: what is to be said, how far it has come, who listens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from vllm_sim.text.tokenizer import decode

if TYPE_CHECKING:
    from collections.abc import Sequence as Row

    from vllm_sim.engine import Sequence


class Listener(Protocol):
    """Hears of new tokens while they come; called in the engine's task, must not wait."""

    def tokens(self, generation: Generation, first: int, end: int) -> None:
        """Tokens `first` to `end` of the answer are there."""


@dataclass(slots=True, eq=False)
class Job:
    """A request as the engine needs it, and the answer it will give."""

    request_id: str
    prompt: Row[int]
    answer: Row[int]
    finish_reason: str
    model: str
    stop_text: str | None = None
    lora: str | None = None
    lora_id: int | None = None
    lora_path: str = ""
    priority: int = 0
    salt: str | None = None
    max_tokens: int | None = None
    hold: bool = False
    kv_source: dict[str, Any] | None = None
    cache_hit_threshold: float = 0.0
    rank: int = 0


@dataclass(slots=True, eq=False)
class Generation:
    """A job in the engine. `done` gives the finish reason, or the error that ended it."""

    job: Job
    listener: Listener | None
    done: asyncio.Future[str] = field(default_factory=lambda: asyncio.Future())
    seq: Sequence | None = None
    produced: int = 0
    last_at: float = -1.0

    def advance(self) -> None:
        """One more token."""
        self.produced += 1
        if self.listener is not None:
            self.listener.tokens(self, self.produced - 1, self.produced)

    def text(self) -> str:
        """All that has been said so far."""
        return decode(self.job.answer[: self.produced])

    @property
    def cached_tokens(self) -> int:
        return max(self.seq.cached_tokens, 0) if self.seq else 0

    def end(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_result(reason)
