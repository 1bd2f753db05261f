"""The admitter that sheds by chance."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import PoolView
from epp.domain.request import Request
from epp.errors import Saturated
from epp.points import Tools


class ProbabilisticAdmitter:
    """probabilistic-admitter: sheds requests of negative priority, the more the fuller the pool.

    Formula: saturation = mean over fresh endpoints of max(waiting / queueDepthThreshold,
    kv_usage / kvCacheUtilThreshold); refused with probability min(saturation**power * k, 1).
    Parameters: queueDepthThreshold (default 5), kvCacheUtilThreshold (default 0.8), power (default
    5), k (default 300).
    Reads: waiting, kv_usage, fresh, priority of the request.
    Differs from the Go picker: endpoints whose metrics are too old do not count as full; if none
    has fresh ones, the request is admitted. Refused with 429 and Retry-After.
    Example:
        - type: probabilistic-admitter
          parameters: {k: 100}
    """

    type: ClassVar[str] = "probabilistic-admitter"

    class Params(PluginParams):
        queue_depth_threshold: float = Field(5.0, gt=0.0)
        kv_cache_util_threshold: float = Field(0.8, gt=0.0, le=1.0)
        power: float = Field(5.0, gt=0.0)
        k: float = Field(300.0, ge=0.0)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._params = params
        self._random = tools.random

    def admit(self, request: Request, pool: PoolView) -> None:
        if request.priority < 0 and self._random.random() < self.chance(pool):
            raise Saturated("the pool is saturated and the request may be shed; try again later")

    def chance(self, pool: PoolView) -> float:
        """The probability that a sheddable request is refused now, 0..1."""
        if not pool.fresh.any():
            return 0.0
        params = self._params
        queue = pool.waiting[pool.fresh] / params.queue_depth_threshold
        memory = pool.kv_usage[pool.fresh] / params.kv_cache_util_threshold
        saturation = min(float(np.maximum(queue, memory).mean()), 1e9)
        return float(min(saturation**params.power * params.k, 1.0))
