"""The admitter that sheds what would come too late."""

from collections.abc import Iterator
from typing import ClassVar, Final

from epp.config.params import PluginParams, Reference, ToProducer
from epp.domain.pool import PoolView
from epp.domain.request import Request
from epp.errors import Saturated
from epp.plugins.columns import PREDICTED_TTFT
from epp.plugins.slo import idle, meets, outlooks

COLD: Final = 0.02
"""An endpoint with less of its KV memory in use has nothing to do."""


class LatencySloAdmitter:
    """latency-slo-admitter: sheds requests of negative priority that no endpoint serves in time.

    Formula: refused if priority < 0, an SLO header is sent, its target is predicted for every
    endpoint, none of them meets it, none is idle (no request there) and none has kv_usage < 0.02.
    Admits as long as nothing is predicted.
    Parameters: latencyPredictionInfoProducerName (default: the last producer's predictions).
    Reads: priority of the request; ttft_headroom, tpot_headroom, running, waiting,
    inflight_requests, kv_usage.
    Differs from the Go picker: refused with 429 and Retry-After instead of 500; endpoints that our
    own requests are on their way to are not idle; an endpoint meets the SLO only if it meets each
    target that is asked for.
    Example:
        - type: latency-slo-admitter
    """

    type: ClassVar[str] = "latency-slo-admitter"

    class Params(PluginParams):
        latency_prediction_info_producer_name: str = ""

        def refers(self) -> Iterator[Reference]:
            name = self.latency_prediction_info_producer_name
            yield ToProducer(("latencyPredictionInfoProducerName",), name, PREDICTED_TTFT)

    def __init__(self, params: Params) -> None:
        self._producer = params.latency_prediction_info_producer_name

    def admit(self, request: Request, pool: PoolView) -> None:
        if request.priority >= 0:
            return
        first, further = outlooks(pool, self._producer)
        met = meets(first, len(pool)) & meets(further, len(pool))
        if (met | idle(pool) | (pool.kv_usage < COLD)).any():
            return
        raise Saturated("no endpoint is expected to answer as fast as the request asks for")
