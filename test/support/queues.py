"""Requests that wait, and what a queue is told, for tests of flow control."""

import math

from support.pools import request, tools

from epp.admission import BandSettings, FlowSettings
from epp.admission.room import Levels, Roles
from epp.config.units import format_duration
from epp.domain.waiting import Contender, Waiting
from epp.domain.workload import Workload
from epp.plugins.fairness.strict import GlobalStrictFairnessPolicy
from epp.plugins.ordering.workload import WorkloadOrderingPolicy
from epp.plugins.saturation.concurrency import ConcurrencyDetector
from epp.plugins.usage_limits.static import StaticUsageLimitPolicy


def waiting(
    number=0,
    *,
    since=0.0,
    flow="",
    workload="",
    criticality=3,
    expires=math.inf,
    asked=None,
    **fields,
):
    """One that came as the `number`th, at `since`; `fields` are the request's."""
    fields = {"id": f"r{number}", "arrived": since, "fairness_id": flow, **fields}
    return Waiting(
        request(**fields),
        number=number,
        since=since,
        expires=expires,
        workload=Workload(workload, criticality),
        asked=asked,
        flow=flow,
        queue=flow,
    )


def contenders(*heads, ordering=None, now=0.0):
    """The heads of flows, ranked."""
    ordering = ordering or workload_ordering()
    return [Contender(head.flow, head, ordering.rank(head, now)) for head in heads]


TIMES = ("criticality_step", "rate_penalty", "rate_half_life", "activity_window")


def workload_ordering(**params):
    """Times in seconds."""
    params = {k: format_duration(v) if k in TIMES else v for k, v in params.items()}
    return WorkloadOrderingPolicy(WorkloadOrderingPolicy.Params(**params), tools())


def band(ordering=None, fairness=None, **limits):
    return BandSettings(
        ordering or workload_ordering(), fairness or GlobalStrictFairnessPolicy(), **limits
    )


def flow_settings(*, default=None, usage=None, detector=None, **settings):
    default = default or band()
    return FlowSettings(
        positive=default,
        negative=settings.pop("negative", default),
        usage=usage or StaticUsageLimitPolicy(StaticUsageLimitPolicy.Params()),
        detector=detector or ConcurrencyDetector(ConcurrencyDetector.Params(max_concurrency=1)),
        **settings,
    )


def levels_of(view, detector=None, within=None) -> Levels:
    """How full the endpoints of `view` are."""
    detector = detector or ConcurrencyDetector(ConcurrencyDetector.Params(max_concurrency=1))
    return Levels(view, detector.fullness(view), Roles(view), within, detector.fullness)
