"""A request, and what the engine knows of it while it lives."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence as Row


class State(IntEnum):
    """Where a sequence is; the last three are final."""

    WAITING = 0
    FETCHING = 1
    PREFILL = 2
    DECODE = 3
    FINISHED = 4
    ABORTED = 5


@dataclass(slots=True, eq=False)
class Request:
    """One prompt and the number of tokens it will produce (0: pooling only, no token).

    `keys` are the chained hashes of full blocks of prompt and, where known, of the output that
    follows; blocks beyond them are never shared. `hold` pins the blocks at the end for another
    replica (prefill side), `remote` fetches the prompt's KV instead of computing it (decode side).
    `tag` belongs to the caller.
    """

    id: str
    prompt_tokens: int
    output_tokens: int
    keys: Row[int] = ()
    priority: int = 0
    lora: str | None = None
    hold: bool = False
    remote: bool = False
    tag: Any = None

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1:
            raise ValueError("prompt_tokens must be at least 1")
        if self.output_tokens < 0:
            raise ValueError("output_tokens must not be negative")


class Sequence:
    """The life of one request; times are the engine's, in seconds, -1 before they happen.

    While it decodes, `computed`, `generated` and `held` are those of the step it joined; the engine
    settles them when it leaves, so that a decode step need not touch every sequence.
    """

    __slots__ = (
        "arrival",
        "cached_tokens",
        "computed",
        "copies",
        "due",
        "finished_at",
        "first_token_at",
        "generated",
        "held",
        "joined",
        "order",
        "preemptions",
        "published",
        "rank",
        "request",
        "scheduled_at",
        "state",
    )

    def __init__(self, request: Request, arrival: float, order: int) -> None:
        self.request = request
        self.arrival = arrival
        self.order = order
        self.state = State.WAITING
        self.computed = 0
        self.generated = 0
        self.held = 0
        self.published = 0
        self.copies: set[int] | None = None
        self.rank = 0
        self.joined = 0
        self.due = 0
        self.cached_tokens = -1
        self.preemptions = 0
        self.scheduled_at = -1.0
        self.first_token_at = -1.0
        self.finished_at = -1.0

    @property
    def total(self) -> int:
        """Tokens known so far: prompt and generated."""
        return self.request.prompt_tokens + self.generated

    def note_copy(self, position: int) -> None:
        if self.copies is None:
            self.copies = set()
        self.copies.add(position)

    def forget_blocks(self) -> None:
        self.held = 0
        self.published = 0
        self.copies = None


@dataclass(slots=True)
class StepResult:
    """What one step did. `end - start` is its duration in seconds.

    `tokens` were computed, `sampled` produced; `first` are the sequences whose very first token
    came in this step, `emitted` every sequence that got a token, filled only
    when the engine reports tokens. `finished` are done; their request ids are free again.
    """

    start: float
    end: float
    tokens: int = 0
    decoded: int = 0
    sampled: int = 0
    first: list[Sequence] = field(default_factory=list)
    emitted: list[Sequence] = field(default_factory=list)
    finished: list[Sequence] = field(default_factory=list)
    preempted: int = 0
