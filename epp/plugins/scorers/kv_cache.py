"""The scorer of KV memory."""

from typing import ClassVar

import numpy as np

from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.scorers._arithmetic import behind_fresh


class KvCacheUtilizationScorer:
    """kv-cache-utilization-scorer: prefers endpoints with more free KV memory.

    Formula: 1 - kv_usage.
    Parameters: none.
    Reads: kv_usage, fresh.
    Differs from the Go picker: an endpoint whose metrics are too old scores 0 instead of its last
    value.
    Example:
        - type: kv-cache-utilization-scorer
    """

    type: ClassVar[str] = "kv-cache-utilization-scorer"

    def score(self, request: Request, pool: PoolView) -> Scores:
        return behind_fresh(1.0 - np.clip(pool.kv_usage, 0.0, 1.0), pool.fresh)
