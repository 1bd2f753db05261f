"""What is held of request bodies: one number with a limit, so that many big prompts end in a 503,
and how near to it the process is, so that most of them wait at the gateway instead.
"""

from typing import Final

_HIGH: Final = 0.75


class ByteBudget:
    """How many bytes of request bodies the picker holds, against the most it may hold."""

    __slots__ = ("_held", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    @property
    def limit(self) -> int:
        """The most bytes that may be held."""
        return self._limit

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    def take(self, size: int) -> bool:
        """Count `size` more bytes as held; over the limit nothing is counted, and it is False."""
        if self._held + size > self._limit:
            return False
        self._held += size
        return True

    def give(self, size: int) -> None:
        """Count `size` bytes as free again."""
        assert size <= self._held, "more given back than was taken"
        self._held -= size


class Backlog:
    """How much the process holds of requests that are not on their way, for all connections.

    Held bodies, and beside them the unfinished messages that will be bodies. Without a budget it
    is never high.
    """

    __slots__ = ("_budget", "_mark", "assembling")

    def __init__(self, budget: ByteBudget | None = None) -> None:
        self._budget = budget
        self._mark = int(_HIGH * budget.limit) if budget is not None else 0
        self.assembling = 0
        """Bytes of unfinished messages; each call counts its own."""

    @property
    def high(self) -> bool:
        """Whether so much is held that no more should be asked for."""
        budget = self._budget
        return budget is not None and budget.held + self.assembling >= self._mark
