"""The scorer of the engine's batch."""

from typing import ClassVar

from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.scorers._arithmetic import lowest_fresh_is_best


class RunningRequestsSizeScorer:
    """running-requests-size-scorer: prefers endpoints with fewer running requests.

    Formula: (max - running) / (max - min) over the fresh endpoints; 1 for all when they are equal.
    Parameters: none.
    Reads: running, fresh.
    Differs from the Go picker: dispatches that no scrape has seen count; an endpoint whose metrics
    are too old scores 0 instead of its last value.
    Example:
        - type: running-requests-size-scorer
    """

    type: ClassVar[str] = "running-requests-size-scorer"

    def score(self, request: Request, pool: PoolView) -> Scores:
        return lowest_fresh_is_best(pool.running, pool.fresh)
