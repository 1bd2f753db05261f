"""The filter of load above a cap."""

from typing import ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request

COLUMNS: Final = {
    "active-requests": "inflight_requests",
    "running-requests": "running",
    "waiting-queue": "waiting",
    "kv-cache-utilization": "kv_usage",
}


class Cap(PluginParams):
    """The highest value of one metric that passes."""

    metric: Literal["active-requests", "running-requests", "waiting-queue", "kv-cache-utilization"]
    max_value: float = Field(ge=0.0)


class UtilizationFilter:
    """utilization-filter: drops endpoints above a cap.

    Formula: keep where every metric is at most its maxValue; all if that leaves none and
    fallbackOnEmpty is set.
    Parameters: conditions (list of metric and maxValue; metric is active-requests,
    running-requests, waiting-queue or kv-cache-utilization), fallbackOnEmpty (default false).
    Reads: inflight_requests, running, waiting, kv_usage, fresh.
    Differs from the Go picker: metrics that are too old fulfil no cap, unless no endpoint has fresh
    ones: then they are not asked.
    Example:
        - type: utilization-filter
          parameters:
            conditions: [{metric: waiting-queue, maxValue: 8}]
            fallbackOnEmpty: true
    """

    type: ClassVar[str] = "utilization-filter"

    class Params(PluginParams):
        conditions: list[Cap] = Field(min_length=1)
        fallback_on_empty: bool = False

    def __init__(self, params: Params) -> None:
        self._caps = [(COLUMNS[cap.metric], cap.max_value) for cap in params.conditions]
        self._falls_back = params.fallback_on_empty

    def filter(self, request: Request, pool: PoolView) -> Mask:
        mask = np.ones(len(pool), dtype=np.bool_)
        unknown = ~pool.fresh.any()
        for column, most in self._caps:
            passes: Mask = pool[column] <= most
            if column != "inflight_requests":
                passes = (passes & pool.fresh) | unknown
            mask &= passes
        return ~mask if self._falls_back and not mask.any() else mask
