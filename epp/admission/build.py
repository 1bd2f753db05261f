"""Settings of flow control out of a planned configuration and its plugins."""

import math
from collections.abc import Mapping
from typing import Any

from epp.admission.settings import BAND_BYTES, BAND_REQUESTS, BandSettings, FlowSettings
from epp.config.plan import Plan
from epp.config.queues import PlannedBand, PlannedQueues
from epp.points import DispatchObserver


def flow_settings(plan: Plan, instances: Mapping[str, Any]) -> FlowSettings | None:
    """What flow control is told; None where it is switched off."""
    queues, detector = plan.queues, plan.detector
    if queues is None or detector is None:
        return None
    return FlowSettings(
        positive=_band(queues.positive, instances),
        negative=_band(queues.negative, instances),
        usage=instances[queues.usage],
        detector=instances[detector.name],
        bands={priority: _band(band, instances) for priority, band in queues.bands.items()},
        max_requests=queues.written.max_requests or math.inf,
        max_bytes=queues.written.max_bytes or math.inf,
        ttl=queues.written.default_request_ttl or math.inf,
        eviction=queues.written.enable_eviction,
        ttl_without_endpoints=_without_endpoints(queues),
    )


def dispatch_observers(plan: Plan, instances: Mapping[str, Any]) -> tuple[DispatchObserver, ...]:
    """The policies that learn of each request that goes."""
    return tuple(instances[planned.name] for planned in plan.at("dispatch-observer"))


def _band(planned: PlannedBand, instances: Mapping[str, Any]) -> BandSettings:
    return BandSettings(
        ordering=instances[planned.ordering],
        fairness=instances[planned.fairness],
        max_requests=planned.written.max_requests or BAND_REQUESTS,
        max_bytes=planned.written.max_bytes or BAND_BYTES,
    )


def _without_endpoints(queues: PlannedQueues) -> float:
    ttl = queues.written.no_endpoint_request_ttl
    return (queues.written.default_request_ttl if ttl is None else ttl) or math.inf
