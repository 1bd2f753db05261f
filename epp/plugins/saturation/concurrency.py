"""Saturation by what is in flight."""

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import Floats, Ints, Mask, PoolView
from epp.domain.request import Request
from epp.plugins.columns import uncached_tokens


class ConcurrencyDetector:
    """concurrency-detector: our own requests in flight against a fixed limit for each endpoint.

    Formula: fullness = inflight_requests / maxConcurrency (requests), inflight_tokens /
    maxTokenConcurrency (tokens) or the larger of both (hybrid); of the pool, the mean. In a profile
    it keeps endpoints with inflight_requests < floor(maxConcurrency * (1 + headroom)) and, by mode,
    inflight_tokens + uncached tokens of this request <= floor(maxTokenConcurrency * (1 +
    headroom)); a prompt without token ids counts 0 here.
    Parameters: maxConcurrency (default 100), maxTokenConcurrency (default 1000000),
    concurrencyMode (requests, tokens or hybrid, default requests), headroom (default 0; for the
    filter alone), inFlightLoadProducerName (accepted, without effect).
    Reads: inflight_requests, inflight_tokens, prefix_tokens (if a producer writes it).
    Differs from the Go picker: requests are held back for endpoints, not for the pool's mean; the
    counts are the picker's own and released on every exit; it filters only where a profile names
    it, and where it leaves none the client gets 503, not 429.
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
        self._most_requests = math.floor(self._requests * (1.0 + params.headroom))
        self._most_tokens = math.floor(self._tokens * (1.0 + params.headroom))

    def saturation(self, pool: PoolView) -> float:
        return float(self.fullness(pool).mean()) if len(pool) else 0.0

    def fullness(self, pool: PoolView) -> Floats:
        requests: Floats = pool.inflight_requests / self._requests
        if self._mode == "requests":
            return requests
        tokens: Floats = pool.inflight_tokens / self._tokens
        return tokens if self._mode == "tokens" else np.maximum(requests, tokens)

    def filter(self, request: Request, pool: PoolView) -> Mask:
        mask = np.ones(len(pool), dtype=np.bool_)
        if self._mode != "tokens":
            mask &= pool.inflight_requests < self._most_requests
        if self._mode != "requests":
            mask &= pool.inflight_tokens + _new_tokens(request, pool) <= self._most_tokens
        return mask


def _new_tokens(request: Request, pool: PoolView) -> Ints:
    """Prompt tokens each endpoint would have to compute; an estimate turns nobody away."""
    if any(prompt.token_ids is None for prompt in request.prompts):
        return np.zeros(len(pool), dtype=np.int64)
    return uncached_tokens(request, pool)
