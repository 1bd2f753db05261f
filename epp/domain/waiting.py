"""A request that waits for its turn, as the policies of flow control see it."""

from dataclasses import dataclass
from typing import Final

import msgspec

from epp.domain.request import Request, SubsetHint
from epp.domain.workload import Workload

EVERYBODY: Final = ""
"""The flow of requests that name no fairness id."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One request in a queue. Compared by identity; times in seconds of the picker's clock."""

    request: Request
    number: int
    """Counts arrivals: of two requests the smaller came first."""
    since: float
    """When it came to the queue."""
    expires: float
    """When its budget is used up; infinite without one."""
    workload: Workload
    asked: float | None = None
    """The budget its client asked for; None if it did not."""
    flow: str = EVERYBODY
    """The fairness id."""
    queue: str = EVERYBODY
    """The flow it queues in: its own, or one it shares where there are too many."""
    subset: SubsetHint | None = None
    """Its request's: in a queue one object for all that may use the same endpoints."""
    tries: int = 0
    """How often it went and found no room after all."""
    retry_at: float = 0.0
    """When it may be tried again."""

    @property
    def priority(self) -> int:
        return self.request.priority

    @property
    def size(self) -> int:
        """Bytes of its body."""
        return self.request.body_size

    @property
    def tokens(self) -> int:
        """Prompt tokens, cached or not: where it will run is not known yet."""
        return self.request.prompt_tokens

    def waited(self, now: float) -> float:
        """Seconds it has been waiting."""
        return now - self.since


class Contender(msgspec.Struct, frozen=True, gc=False):
    """The request a flow would send next, and how the ordering policy ranks it."""

    flow: str
    head: Waiting
    rank: float
    """Smallest goes first."""
