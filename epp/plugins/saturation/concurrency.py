"""Saturation by what is in flight."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import Floats, PoolView


class ConcurrencyDetector:
    """concurrency-detector: our own requests in flight against a fixed limit for each endpoint.

    Formula: fullness = inflight_requests / maxConcurrency (requests), inflight_tokens /
    maxTokenConcurrency (tokens) or the larger of both (hybrid); of the pool, the mean.
    Parameters: maxConcurrency (default 100), maxTokenConcurrency (default 1000000),
    concurrencyMode (requests, tokens or hybrid, default requests), headroom and
    inFlightLoadProducerName (accepted, without effect).
    Reads: inflight_requests, inflight_tokens.
    Differs from the Go picker: requests are held back for endpoints, not for the pool's mean; the
    counts are the picker's own and released on every exit.
    Example:
        - type: concurrency-detector
          parameters: {maxConcurrency: 64}
    """

    type: ClassVar[str] = "concurrency-detector"

    class Params(PluginParams):
        max_concurrency: int = Field(100, ge=1)
        max_token_concurrency: int = Field(1_000_000, ge=1)
        concurrency_mode: Literal["requests", "tokens", "hybrid"] = "requests"
        headroom: float = Field(0.0, ge=0.0)
        in_flight_load_producer_name: str = ""

    def __init__(self, params: Params) -> None:
        self._mode = params.concurrency_mode
        self._requests = float(params.max_concurrency)
        self._tokens = float(params.max_token_concurrency)

    def saturation(self, pool: PoolView) -> float:
        return float(self.fullness(pool).mean()) if len(pool) else 0.0

    def fullness(self, pool: PoolView) -> Floats:
        requests: Floats = pool.inflight_requests / self._requests
        if self._mode == "requests":
            return requests
        tokens: Floats = pool.inflight_tokens / self._tokens
        return tokens if self._mode == "tokens" else np.maximum(requests, tokens)
