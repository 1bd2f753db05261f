"""The scorer of the engine's queue."""

from typing import ClassVar

from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.scorers._arithmetic import lowest_fresh_is_best


class QueueScorer:
    """queue-scorer: prefers endpoints with fewer waiting requests.

    Formula: (max - waiting) / (max - min) over the fresh endpoints; 1 for all when they are equal.
    Parameters: none.
    Reads: waiting, fresh.
    Differs from the Go picker: a request that was sent and has not shown up in a scrape yet counts
    as waiting, so picks between two scrapes do not herd; an endpoint whose metrics are too old
    scores 0 instead of its last value.
    Example:
        - type: queue-scorer
    """

    type: ClassVar[str] = "queue-scorer"

    def score(self, request: Request, pool: PoolView) -> Scores:
        return lowest_fresh_is_best(pool.waiting, pool.fresh)
