"""The scorer of the queue against a fixed length."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.scorers._arithmetic import behind_fresh


class LoadAwareScorer:
    """load-aware-scorer: prefers endpoints with a short queue, measured against a threshold.

    Formula: 0.5 * (1 - min(waiting, threshold) / threshold).
    Parameters: threshold (requests at which the score is 0, default 128).
    Reads: waiting, fresh.
    Differs from the Go picker: dispatches that no scrape has seen count; an endpoint whose metrics
    are too old scores 0 instead of its last value.
    Example:
        - type: load-aware-scorer
          parameters: {threshold: 64}
    """

    type: ClassVar[str] = "load-aware-scorer"

    class Params(PluginParams):
        threshold: int = Field(128, ge=1)

    def __init__(self, params: Params) -> None:
        self._threshold = params.threshold

    def score(self, request: Request, pool: PoolView) -> Scores:
        filled = np.minimum(pool.waiting, self._threshold) / self._threshold
        return behind_fresh(0.5 * (1.0 - filled), pool.fresh)
