"""The scorer of cached prefixes."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams, Reference, ToProducer
from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.columns import PREFIX_TOKENS, matched_share, named


class PrefixCacheScorer:
    """prefix-cache-scorer: prefers endpoints that hold more of the prompt in their cache.

    Formula: w * min(1, cached / s)**2 + (1 - w) * cached / total, in prompt tokens.
    Parameters: matchLengthWeight (w, 0..1, default 0), matchLengthScaleTokens (s, default 8192),
    prefixMatchInfoProducerName (whose matches to read; default: those of the last producer).
    Reads: prefix_tokens, prefix_total.
    Differs from the Go picker: total counts full blocks only, as engines cache them; has no opinion
    where no producer looked, instead of 0 for each.
    Example:
        - type: prefix-cache-scorer
          parameters: {matchLengthWeight: 0.3}
    """

    type: ClassVar[str] = "prefix-cache-scorer"

    class Params(PluginParams):
        prefix_match_info_producer_name: str = ""
        match_length_weight: float = Field(0.0, ge=0.0, le=1.0)
        match_length_scale_tokens: int = Field(8192, ge=1)

        def refers(self) -> Iterator[Reference]:
            name = self.prefix_match_info_producer_name
            yield ToProducer(("prefixMatchInfoProducerName",), name, PREFIX_TOKENS)

    def __init__(self, params: Params) -> None:
        self._producer = params.prefix_match_info_producer_name
        self._weight = params.match_length_weight
        self._scale = params.match_length_scale_tokens

    def score(self, request: Request, pool: PoolView) -> Scores | None:
        share = matched_share(pool, self._producer)
        if share is None or not self._weight:
            return share
        cached = pool[named(PREFIX_TOKENS, self._producer)]
        length = np.minimum(cached / self._scale, 1.0) ** 2
        return self._weight * length + (1.0 - self._weight) * share
