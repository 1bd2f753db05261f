"""The scorer of prompt tokens still to be computed."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.columns import PREFIX_TOKENS, uncached_tokens


class TokenLoadScorer:
    """token-load-scorer: prefers endpoints with fewer prompt tokens in flight, this one's included.

    Formula: 1 - min(inflight_tokens + uncached tokens of this request, T) / T.
    Parameters: queueThresholdTokens (T, tokens at which the score is 0, default 4194304).
    Reads: inflight_tokens, prefix_tokens (if a producer writes it).
    Example:
        - type: token-load-scorer
    """

    type: ClassVar[str] = "token-load-scorer"
    consumes: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS,)

    class Params(PluginParams):
        queue_threshold_tokens: int = Field(4_194_304, ge=1)

    def __init__(self, params: Params) -> None:
        self._threshold = params.queue_threshold_tokens

    def score(self, request: Request, pool: PoolView) -> Scores:
        tokens = pool.inflight_tokens + uncached_tokens(request, pool)
        scores: Scores = 1.0 - np.minimum(tokens, self._threshold) / self._threshold
        return scores
