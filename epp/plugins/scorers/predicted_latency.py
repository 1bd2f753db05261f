"""The older plugin that predicts and scores in one."""

from typing import ClassVar, Literal

from pydantic import Field

from epp.config.params import PluginParams
from epp.config.units import Duration
from epp.domain.endpoint import ROLE_LABEL
from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.producers.predicted_latency import PredictedLatencyProducer
from epp.plugins.scorers.latency import LatencyScorer
from epp.points import Tools


class PredictedLatencyScorer(PredictedLatencyProducer):
    """predicted-latency-scorer: both the producer of predictions and a scorer of them; deprecated.

    Formula: predicts as predicted-latency-producer, scores as latency-scorer by its own
    predictions; with a headroomSelectionStrategy that begins with composite, as latency-scorer does
    before there are predictions.
    Parameters: sloBufferFactor (default 1), headroomTTFTWeight (default 0.8), headroomTPOTWeight
    (default 0.2), headroomSelectionStrategy (least, most, composite-least, composite-most or
    composite-only, default least), compositeKVWeight, compositeQueueWeight, compositePrefixWeight
    (default 1), endpointRoleLabel (default llm-d.ai/role); accepted, without effect: samplingMean,
    maxSampledTokens, contextTTL, streamingMode, selectionMode, and negHeadroomTTFTWeight,
    negHeadroomTPOTWeight, epsilonExploreSticky, epsilonExploreNeg, affinityGateTau,
    affinityGateTauGlobal, which are matters of slo-headroom-tier-filter and
    prefix-cache-affinity-filter.
    Reads: what predicted-latency-producer and latency-scorer read. Writes: what
    predicted-latency-producer writes.
    Differs from the Go picker: endpoints are rated; it does not draw one at random and give the
    others 0, which weighted-random-picker does.
    Example:
        - type: predicted-latency-scorer
          parameters: {sloBufferFactor: 0.9, headroomSelectionStrategy: least}
    """

    type: ClassVar[str] = "predicted-latency-scorer"
    deprecated: ClassVar[str] = (
        "use predicted-latency-producer, slo-headroom-tier-filter and latency-scorer"
    )

    class Params(PluginParams):
        slo_buffer_factor: float = Field(1.0, gt=0.0)
        headroom_ttft_weight: float = Field(0.8, ge=0.0, alias="headroomTTFTWeight")
        headroom_tpot_weight: float = Field(0.2, ge=0.0, alias="headroomTPOTWeight")
        headroom_selection_strategy: Literal[
            "least", "most", "composite-least", "composite-most", "composite-only"
        ] = "least"
        composite_kv_weight: float = Field(1.0, ge=0.0, alias="compositeKVWeight")
        composite_queue_weight: float = Field(1.0, ge=0.0)
        composite_prefix_weight: float = Field(1.0, ge=0.0)
        endpoint_role_label: str = ROLE_LABEL
        sampling_mean: float | None = None
        max_sampled_tokens: int | None = None
        context_ttl: Duration | None = Field(None, alias="contextTTL")
        streaming_mode: bool = False
        selection_mode: Literal["linear", "max"] = "linear"
        neg_headroom_ttft_weight: float | None = Field(None, alias="negHeadroomTTFTWeight")
        neg_headroom_tpot_weight: float | None = Field(None, alias="negHeadroomTPOTWeight")
        epsilon_explore_sticky: float | None = None
        epsilon_explore_neg: float | None = None
        affinity_gate_tau: float | None = None
        affinity_gate_tau_global: float | None = None

    def __init__(self, params: Params, tools: Tools) -> None:
        predicting = {
            "slo_buffer_factor": params.slo_buffer_factor,
            "endpoint_role_label": params.endpoint_role_label,
        }
        super().__init__(PredictedLatencyProducer.Params.model_validate(predicting), tools)
        strategy = params.headroom_selection_strategy
        self._rates = not strategy.startswith("composite")
        self._scorer = LatencyScorer(
            LatencyScorer.Params.model_validate(
                {
                    "ttft_weight": params.headroom_ttft_weight,
                    "tpot_weight": params.headroom_tpot_weight,
                    "headroom_selection_strategy": "most" if strategy == "most" else "least",
                    "composite_kv_weight": params.composite_kv_weight,
                    "composite_queue_weight": params.composite_queue_weight,
                    "composite_prefix_weight": params.composite_prefix_weight,
                    "latency_prediction_info_producer_name": tools.name,
                }
            )
        )

    def score(self, request: Request, pool: PoolView) -> Scores:
        scorer = self._scorer
        return scorer.score(request, pool) if self._rates else scorer.composite(pool)
