"""The producer of predicted latencies."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from pydantic import Field, field_validator, model_validator

from epp.config.params import PluginParams
from epp.config.units import Duration
from epp.datastore.latency import LatencyModel
from epp.domain.decision import Decision
from epp.domain.endpoint import ENGINE_LABELS, ROLE_LABEL, Endpoint
from epp.domain.headers import SLO_TPOT_MS, SLO_TTFT_MS
from epp.domain.pool import Column, Floats, PoolView
from epp.domain.request import Request
from epp.domain.response import Ending, ResponseHead, Usage
from epp.plugins.columns import (
    PREDICTED_TPOT,
    PREDICTED_TTFT,
    PREFIX_TOKENS,
    TPOT_HEADROOM,
    TTFT_HEADROOM,
    named,
    uncached_tokens,
)
from epp.plugins.producers.courses import TPOT, TTFT, Course, Courses
from epp.plugins.slo import promised
from epp.points import Tools

WIDTH: Final = 7
"""Features: 1, thousands of prompt tokens, of uncached ones, of those in flight before it, tens of
running requests with this one, tens of waiting ones, share of KV memory in use."""
READS: Final = ((0, 1, 2, 3, 4, 5, 6), (0, 3, 4, 6))
"""The features of the first token, and those of each further one."""
CLASS_LABELS: Final = (*ENGINE_LABELS, "llm-d.ai/model", "nvidia.com/gpu.product")
ANY: Final = "any"


class Guess(NamedTuple):
    """What was expected of every endpoint for one request."""

    request_id: str
    endpoints: tuple[Endpoint, ...]
    features: Floats
    seconds: Floats


NO_GUESS: Final = Guess("", (), np.zeros((WIDTH, 0)), np.zeros((2, 0)))


class PredictedLatencyProducer:
    """predicted-latency-producer: how long each endpoint will take, learned from its answers.

    Formula: for each target, seconds = factor of the endpoint * (coefficients of its class .
    features), no coefficient below 0. Time to the first token: 1, prompt tokens, uncached prompt
    tokens, inflight_tokens, running + 1, waiting, kv_usage. Time per output token: 1,
    inflight_tokens, running + 1, kv_usage. Coefficients are least squares over the relative errors
    of the class's answers, one of which weighs half after 350 more; an answer counts as no further
    off than three usual errors. The factor follows how an endpoint's answers compare with its
    class; one that is three times off teaches its class nothing, and without answers it goes back
    to 1, by half in a minute. ttft_headroom = SLO - time waited here - predicted; tpot_headroom =
    SLO * sloBufferFactor - predicted. NaN before a class has given minSamples answers.
    Parameters: sloBufferFactor (default 1), endpointRoleLabel (default llm-d.ai/role) and
    classLabels (endpoints alike in all of them are one class; default: engine type, llm-d.ai/model,
    nvidia.com/gpu.product), minSamples (default 48), predictInProduce (false: learns and
    measures its error, but tells nobody; default true), contextTTL, streamingMode, samplingMean and
    maxDecodeTokenSamplesForPrediction (accepted, without effect), useEncoderCacheFeatures (true is
    refused).
    Reads: waiting, running, kv_usage, inflight_tokens, inflight_requests, fresh, slots,
    prefix_tokens; headers x-llm-d-slo-ttft-ms and x-llm-d-slo-tpot-ms (or x-slo-...). Learns in
    full mode only: from the first piece of a stream, its end and its usage; with old gauges not at
    all. Writes: predicted_ttft, predicted_tpot, ttft_headroom, tpot_headroom, and each under its
    own name.
    Differs from the Go picker: learned in this process, with no side-car to ask, so there is
    nothing to be late or down; whether an answer streams is seen by itself; a time to the first
    token is never that of a whole answer; what a request has waited here is taken from its SLO; a
    prediction is there for all endpoints or none is used; parameters that name a server are
    refused.
    Example:
        - type: predicted-latency-producer
          parameters: {sloBufferFactor: 0.9}
    """

    type: ClassVar[str] = "predicted-latency-producer"
    consumes: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS,)
    produces: ClassVar[tuple[str, ...]] = (
        PREDICTED_TTFT,
        PREDICTED_TPOT,
        TTFT_HEADROOM,
        TPOT_HEADROOM,
    )

    class Params(PluginParams):
        slo_buffer_factor: float = Field(1.0, gt=0.0)
        context_ttl: Duration | None = Field(None, alias="contextTTL")
        streaming_mode: bool = False
        endpoint_role_label: str = ROLE_LABEL
        class_labels: list[str] = Field(list(CLASS_LABELS), max_length=16)
        min_samples: int = Field(48, ge=8, le=100_000)
        predict_in_produce: bool = True
        use_encoder_cache_features: bool = False
        sampling_mean: float | None = None
        max_decode_token_samples_for_prediction: int | None = None

        @model_validator(mode="before")
        @classmethod
        def _no_server(cls, given: Any) -> Any:
            names = given if isinstance(given, Mapping) else ()
            if asked := [n for n in names if "url" in str(n).lower() or "server" in str(n).lower()]:
                raise ValueError(
                    f"{', '.join(map(str, asked))}: latencies are predicted in this process and no "
                    f"side-car is asked; remove it"
                )
            return given

        @field_validator("use_encoder_cache_features")
        @classmethod
        def _no_encoders(cls, wanted: bool) -> bool:
            if wanted:
                raise ValueError("what encoders have cached is not known here: remove it")
            return wanted

    def __init__(self, params: Params, tools: Tools) -> None:
        self._params = params
        self._clock = tools.clock
        clock, least = tools.clock, params.min_samples
        self._labels = (*params.class_labels, params.endpoint_role_label)
        self.courses = tools.state.keep(
            "courses",
            lambda: Courses(LatencyModel(clock, WIDTH, READS, least), clock),
            shape=f"minSamples={least}",
        )
        self._model = self.courses.model
        self._names = {column: named(column, tools.name) for column in self.produces}
        self._assigned: tuple[Endpoint, ...] = ()
        self._seen: dict[int, Endpoint] = {}
        self._latest = NO_GUESS

    # -- before the pick --------------------------------------------------------------------------

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        self._assign(pool)
        features = features_of(request, pool)
        seconds = self._model.predict(features, pool.slots)
        self._latest = Guess(request.id, pool.endpoints, features, seconds)
        if not self._params.predict_in_produce:
            return {}
        told = {PREDICTED_TTFT: seconds[TTFT], PREDICTED_TPOT: seconds[TPOT]}
        ttft, tpot = self._asked(request)
        if ttft is not None:
            told[TTFT_HEADROOM] = ttft - seconds[TTFT]
        if tpot is not None:
            told[TPOT_HEADROOM] = tpot * self._params.slo_buffer_factor - seconds[TPOT]
        return told | {self._names[name]: column for name, column in told.items()}

    def _asked(self, request: Request) -> tuple[float | None, float | None]:
        """What the client asks for, in seconds; that of the first token from now on."""
        ttft = promised(request.headers, SLO_TTFT_MS)
        if ttft is not None:
            ttft -= self._clock() - request.arrived
        return ttft, promised(request.headers, SLO_TPOT_MS)

    def _assign(self, pool: PoolView) -> None:
        """Tell the model of which class each endpoint is; views share their tuple mostly."""
        if pool.endpoints is self._assigned:
            return
        for endpoint, slot in zip(pool.endpoints, pool.slots.tolist(), strict=True):
            if self._seen.get(slot) is not endpoint:
                self._seen[slot] = endpoint
                self._model.assign(slot, class_name(endpoint, self._labels))
        self._assigned = pool.endpoints

    # -- after it ---------------------------------------------------------------------------------

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        latest, self._latest = self._latest, NO_GUESS
        if latest.request_id != request.id:
            return
        chosen = decision.endpoint
        row = next(row for row, one in enumerate(latest.endpoints) if one is chosen)
        if not pool.fresh[row]:
            return
        course = Course(
            slot=int(pool.slots[row]),
            features=latest.features[:, row].copy(),
            expected=(float(latest.seconds[TTFT, row]), float(latest.seconds[TPOT, row])),
            picked_at=self._clock(),
            streams=request.stream,
            slo=self._asked(request),
            helped=any(result.picked for result in decision.others),
        )
        self.courses.begin(request.id, course)

    def response_started(self, request: Request, decision: Decision, head: ResponseHead) -> None:
        elsewhere = head.served is not None and head.served != decision.endpoint.address
        if elsewhere or not 200 <= head.status < 300:
            self.courses.drop(request.id)

    def used(self, request: Request, decision: Decision, usage: Usage) -> None:
        self.courses.counted(request.id, usage.completion_tokens)

    def ended(self, request: Request, decision: Decision, ending: Ending) -> None:
        self.courses.end(request.id, whole=ending is Ending.COMPLETE)


def features_of(request: Request, pool: PoolView) -> Floats:
    """What the model reads, shape `(WIDTH, n)`."""
    features = np.empty((WIDTH, len(pool)))
    features[0] = 1.0
    features[1] = request.prompt_tokens * 1e-3
    np.multiply(uncached_tokens(request, pool), 1e-3, out=features[2])
    np.multiply(pool.inflight_tokens, 1e-3, out=features[3])
    np.multiply(pool.running, 0.1, out=features[4])
    features[4] += 0.1
    np.multiply(pool.waiting, 0.1, out=features[5])
    features[6] = pool.kv_usage
    return features


def class_name(endpoint: Endpoint, labels: tuple[str, ...]) -> str:
    """The values of those labels that an endpoint has, with bars between."""
    values = [value for label in labels if (value := endpoint.labels.get(label))]
    return "|".join(values)[:128] or ANY
