"""The scorer of our own requests in flight."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request


class ActiveRequestScorer:
    """active-request-scorer: prefers endpoints where fewer of our requests are open.

    Formula: 1 up to idleThreshold requests; above it (max - requests) / max * maxBusyScore.
    Parameters: idleThreshold (requests that still count as idle, default 0), maxBusyScore (score
    just above idle, 0..1, default 1).
    Reads: inflight_requests.
    Differs from the Go picker: counts under an id of our own, so that two requests with one
    x-request-id cannot leave a count behind.
    Example:
        - type: active-request-scorer
          parameters: {idleThreshold: 2, maxBusyScore: 0.8}
    """

    type: ClassVar[str] = "active-request-scorer"

    class Params(PluginParams):
        idle_threshold: int = Field(0, ge=0)
        max_busy_score: float = Field(1.0, ge=0.0, le=1.0)

    def __init__(self, params: Params) -> None:
        self._idle = params.idle_threshold
        self._busy_score = params.max_busy_score

    def score(self, request: Request, pool: PoolView) -> Scores:
        active = pool.inflight_requests
        most = max(int(active.max()), 1)
        busy = (most - active) / most * self._busy_score
        return np.where(active <= self._idle, 1.0, busy)
