"""The filter of endpoints that are predicted to keep what the client asks for."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from epp.config.params import PluginParams, Reference, ToProducer
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.plugins.columns import PREDICTED_TTFT
from epp.plugins.slo import meets, outlooks
from epp.points import Tools


class SloHeadroomTierFilter:
    """slo-headroom-tier-filter: keeps endpoints that are predicted to meet the client's SLO.

    Formula: keep where ttft_headroom >= 0 and tpot_headroom >= 0; the others if there is none, and
    with the probability epsilonExploreNeg if there are others. All where the client asks for
    nothing, and before there are predictions.
    Parameters: epsilonExploreNeg (default 0.01), latencyPredictionInfoProducerName (default: the
    last producer's predictions).
    Reads: predicted_ttft, predicted_tpot, ttft_headroom, tpot_headroom; headers
    x-llm-d-slo-ttft-ms and x-llm-d-slo-tpot-ms by way of these.
    Differs from the Go picker: a target the client does not ask for counts as met, and so does one
    that is not predicted yet.
    Example:
        - type: slo-headroom-tier-filter
          parameters: {epsilonExploreNeg: 0}
    """

    type: ClassVar[str] = "slo-headroom-tier-filter"

    class Params(PluginParams):
        epsilon_explore_neg: float = Field(0.01, ge=0.0, le=1.0)
        latency_prediction_info_producer_name: str = ""

        def refers(self) -> Iterator[Reference]:
            name = self.latency_prediction_info_producer_name
            yield ToProducer(("latencyPredictionInfoProducerName",), name, PREDICTED_TTFT)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._params = params
        self._random = tools.random

    def filter(self, request: Request, pool: PoolView) -> Mask:
        first, further = outlooks(pool, self._params.latency_prediction_info_producer_name)
        met: Mask = meets(first, len(pool)) & meets(further, len(pool))
        if met.all():
            return met
        return ~met if not met.any() or self._explores() else met

    def _explores(self) -> bool:
        chance = self._params.epsilon_explore_neg
        return chance > 0 and self._random.random() < chance
