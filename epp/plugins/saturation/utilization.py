"""Saturation by the engines' gauges."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.config.units import Duration
from epp.domain.pool import Floats, Mask, PoolView
from epp.domain.request import Request
from epp.plugins.saturation._known import among_known, mean_of_known


class UtilizationDetector:
    """utilization-detector: queues and KV memory against thresholds.

    Formula: fullness = max(waiting / queueDepthThreshold, kv_usage / kvCacheUtilThreshold); of the
    pool, the mean. In a profile it keeps endpoints with fresh gauges, waiting < queueDepthThreshold
    * (1 + headroom) and kv_usage < kvCacheUtilThreshold * (1 + headroom); all if there is none.
    Parameters: queueDepthThreshold (default 5), kvCacheUtilThreshold (default 0.8),
    metricsStalenessThreshold (accepted: gauges are old after missed scrapes, one rule for all),
    headroom (default 0; for the filter alone).
    Reads: waiting, kv_usage, fresh.
    Differs from the Go picker: endpoints without fresh gauges are left out instead of counting as
    full, and if none has any the pool is idle; requests are held back for endpoints, not for the
    pool's mean; what was sent since the last scrape counts as waiting where somebody waits already
    or the size of the engine's batch is known; it filters only where a profile names it.
    Example:
        - type: utilization-detector
          parameters: {queueDepthThreshold: 10}
    """

    type: ClassVar[str] = "utilization-detector"

    class Params(PluginParams):
        queue_depth_threshold: float = Field(5.0, gt=0.0)
        kv_cache_util_threshold: float = Field(0.8, gt=0.0, le=1.0)
        metrics_staleness_threshold: Duration = 0.2
        headroom: float = Field(0.0, ge=0.0)

    def __init__(self, params: Params) -> None:
        self._queue = params.queue_depth_threshold
        self._memory = params.kv_cache_util_threshold
        self._most = 1.0 + params.headroom

    def saturation(self, pool: PoolView) -> float:
        return mean_of_known(self._raw(pool), pool)

    def fullness(self, pool: PoolView) -> Floats:
        return among_known(self._raw(pool), pool)

    def filter(self, request: Request, pool: PoolView) -> Mask:
        roomy: Mask = (self._raw(pool) < self._most) & pool.fresh
        return roomy if roomy.any() else ~roomy

    def _raw(self, pool: PoolView) -> Floats:
        filled: Floats = np.maximum(pool.waiting / self._queue, pool.kv_usage / self._memory)
        return filled
