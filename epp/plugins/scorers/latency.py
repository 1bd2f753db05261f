"""The scorer of predicted latencies."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from epp.config.params import PluginParams, Reference, ToProducer
from epp.domain.pool import Floats, Mask, PoolView, Scores
from epp.domain.request import Request
from epp.plugins.columns import PREDICTED_TTFT, PREFIX_TOKENS, matched_share
from epp.plugins.scorers._arithmetic import behind_fresh, lowest_is_best
from epp.plugins.slo import Outlook, idle, meets, outlooks


class LatencyScorer:
    """latency-scorer: prefers endpoints that are predicted to keep what the client asks for.

    Formula: with an SLO, one tier of endpoints is rated and the others get 0. Tiers, the first that
    has any: both targets met, idle, only the first token in time, only further tokens in time,
    neither. Inside it, for each target, n = |headroom| from 0 at the least of the tier to 1 at the
    most; c = ttftWeight * n_ttft + tpotWeight * n_tpot, weights brought to a sum of 1; score =
    (floor((1 - c) * 100) + 1) / 100, at most 1; with headroomSelectionStrategy most, c in place of
    1 - c in the tier that meets both. Without an SLO the same of the predicted seconds: the fastest
    is best. Before there are predictions, the sum of compositeKVWeight * (1 - kv_usage),
    compositeQueueWeight * (max - waiting) / (max - min) and compositePrefixWeight * cached / total,
    over the sum of the weights; endpoints with old gauges get 0.
    Parameters: ttftWeight (default 0.8), tpotWeight (default 0.2), headroomSelectionStrategy
    (least fills endpoints up, most spreads; default least), compositeKVWeight,
    compositeQueueWeight and compositePrefixWeight (default 1), latencyPredictionInfoProducerName
    (default: the last producer's predictions).
    Reads: predicted_ttft, predicted_tpot, ttft_headroom, tpot_headroom, running, waiting, kv_usage,
    inflight_requests, prefix_tokens, prefix_total.
    Differs from the Go picker: a target the client does not ask for counts as met and has no part
    in the rating, instead of as 0 ms that nobody meets; likewise one that is not predicted yet.
    Example:
        - type: latency-scorer
          parameters: {headroomSelectionStrategy: most}
    """

    type: ClassVar[str] = "latency-scorer"
    consumes: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS,)

    class Params(PluginParams):
        ttft_weight: float = Field(0.8, ge=0.0)
        tpot_weight: float = Field(0.2, ge=0.0)
        headroom_selection_strategy: Literal["least", "most"] = "least"
        composite_kv_weight: float = Field(1.0, ge=0.0, alias="compositeKVWeight")
        composite_queue_weight: float = Field(1.0, ge=0.0)
        composite_prefix_weight: float = Field(1.0, ge=0.0)
        latency_prediction_info_producer_name: str = ""

        def refers(self) -> Iterator[Reference]:
            name = self.latency_prediction_info_producer_name
            yield ToProducer(("latencyPredictionInfoProducerName",), name, PREDICTED_TTFT)

        @model_validator(mode="after")
        def _something_counts(self) -> "LatencyScorer.Params":
            if not self.ttft_weight + self.tpot_weight:
                raise ValueError("ttftWeight and tpotWeight are both 0: give one of them a weight")
            return self

    def __init__(self, params: Params) -> None:
        self._params = params
        self._weights = (params.ttft_weight, params.tpot_weight)
        self._spreads = params.headroom_selection_strategy == "most"

    def score(self, request: Request, pool: PoolView) -> Scores:
        both = outlooks(pool, self._params.latency_prediction_info_producer_name)
        known = [(o, w) for o, w in zip(both, self._weights, strict=True) if o is not None and w]
        if not known:
            return self.composite(pool)
        asked = [(o.headroom, w) for o, w in known if o.headroom is not None]
        if not asked:
            everywhere = np.ones(len(pool), dtype=np.bool_)
            return rated([(o.expected, w) for o, w in known], everywhere)
        tier, most_is_best = self._tier(both, pool)
        return rated([(np.abs(h), w) for h, w in asked], tier, most_is_best=most_is_best)

    def _tier(
        self, both: tuple[Outlook | None, Outlook | None], pool: PoolView
    ) -> tuple[Mask, bool]:
        """The endpoints to choose from, and whether the most headroom is best among them."""
        first, further = (meets(outlook, len(pool)) for outlook in both)
        met = first & further
        if met.any():
            return met, self._spreads
        for tier in (idle(pool), first, further):
            if tier.any():
                return tier, False
        return ~met, False

    def composite(self, pool: PoolView) -> Scores:
        """What can be said before anything is predicted."""
        params = self._params
        share = matched_share(pool)
        parts = [
            (params.composite_kv_weight, 1.0 - pool.kv_usage),
            (params.composite_queue_weight, lowest_is_best(pool.waiting)),
            (params.composite_prefix_weight, np.zeros(len(pool)) if share is None else share),
        ]
        total = sum(weight for weight, _ in parts) or 1.0
        scores: Scores = sum((w * part for w, part in parts), np.zeros(len(pool))) / total
        return behind_fresh(scores, pool.fresh)


def rated(
    sizes: Sequence[tuple[Floats, float]], tier: Mask, *, most_is_best: bool = False
) -> Scores:
    """Scores in the tier by weighted sizes, 0 outside of it; the least is best unless told."""
    whole = sum(weight for _, weight in sizes)
    combined = np.zeros(int(tier.sum()))
    for size, weight in sizes:
        combined += weight / whole * _spread(size[tier])
    rating = combined if most_is_best else 1.0 - combined
    scores = np.zeros(len(tier))
    # A hair more: 0.57 * 100 falls short of 57.
    scores[tier] = np.minimum((np.floor(rating * 100.0 + 1e-9) + 1.0) / 100.0, 1.0)
    return scores


def _spread(sizes: Floats) -> Floats:
    """From 0 at the least to 1 at the most; 0 where all are equal."""
    low, high = sizes.min(), sizes.max()
    if high == low:
        return np.zeros(len(sizes))
    spread: Floats = (sizes - low) / (high - low)
    return spread
