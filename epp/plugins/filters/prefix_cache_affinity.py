"""The filter that stays with warm caches until they are saturated."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams, Reference, ToProducer
from epp.domain.pool import Floats, Mask, PoolView
from epp.domain.request import Request
from epp.plugins.columns import PREDICTED_TTFT, PREFIX_TOKENS, matched_share
from epp.plugins.slo import outlooks
from epp.points import Tools


class PrefixCacheAffinityFilter:
    """prefix-cache-affinity-filter: keeps endpoints with most of the prompt, unless they lag.

    Formula: warm = cached / total >= affinityThreshold; keep the warm ones unless the least waiting
    time among them exceeds the least among the others by more than maxTTFTPenaltyMs, the waiting
    time being inflight_tokens / peakPrefillThroughput, or predicted_ttft with ttftSource
    latencyPredictor; keep all if none is warm, and with explorationProbability.
    Parameters: affinityThreshold (default 0.8), explorationProbability (default 0),
    maxTTFTPenaltyMs (default 18000), ttftSource (prefillThroughput, the default, or
    latencyPredictor, which brings a predicted-latency-producer along; as long as that predicts
    nothing, prefillThroughput stands in), peakPrefillThroughput (tokens/s, default 15928),
    prefixMatchInfoProducerName (default: the last producer's matches).
    Reads: inflight_tokens, prefix_tokens, prefix_total, predicted_ttft.
    Example:
        - type: prefix-cache-affinity-filter
          parameters: {affinityThreshold: 0.6}
    """

    type: ClassVar[str] = "prefix-cache-affinity-filter"

    class Params(PluginParams):
        affinity_threshold: float = Field(0.8, ge=0.0, le=1.0)
        exploration_probability: float = Field(0.0, ge=0.0, le=1.0)
        max_ttft_penalty_ms: float = Field(18_000.0, ge=0.0, alias="maxTTFTPenaltyMs")
        ttft_source: Literal["prefillThroughput", "latencyPredictor"] = "prefillThroughput"
        peak_prefill_throughput: float = Field(15_928.0, gt=0.0)
        prefix_match_info_producer_name: str = ""

        def refers(self) -> Iterator[Reference]:
            name = self.prefix_match_info_producer_name
            yield ToProducer(("prefixMatchInfoProducerName",), name, PREFIX_TOKENS)
            if self.ttft_source == "latencyPredictor":
                yield ToProducer(("ttftSource",), "", PREDICTED_TTFT)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._params = params
        self._random = tools.random
        self._penalty = params.max_ttft_penalty_ms / 1000.0
        self._predicts = params.ttft_source == "latencyPredictor"

    def filter(self, request: Request, pool: PoolView) -> Mask:
        everything = np.ones(len(pool), dtype=np.bool_)
        share = matched_share(pool, self._params.prefix_match_info_producer_name)
        if share is None or self._explores():
            return everything
        warm: Mask = share >= self._params.affinity_threshold
        if not warm.any() or warm.all():
            return everything
        seconds = self._seconds(pool)
        lead = seconds[warm].min() - seconds[~warm].min()
        return everything if lead > self._penalty else warm

    def _seconds(self, pool: PoolView) -> Floats:
        """How long each endpoint will take to the first token."""
        first = outlooks(pool)[0] if self._predicts else None
        if first is not None:
            return first.expected
        waiting: Floats = pool.inflight_tokens / self._params.peak_prefill_throughput
        return waiting

    def _explores(self) -> bool:
        chance = self._params.exploration_probability
        return chance > 0 and self._random.random() < chance
