"""Policies for more requests than there is room: who goes first, who waits, who is refused.

All of a kind place alike: ours as `default`, the Go picker's as `go-default`. Where requests wait
they wait at most `TTL`, so that what differs is the order, and when somebody may go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from epp.config.default import DEFAULT_CONFIG
from epp_lab.baselines.table import BASELINES, Baseline, configured

TTL: Final = "1s"
"""Below the SLO of the overload workloads: who is served later than that has waited in vain."""
STRICT: Final = "global-strict-fairness-policy"
DEFICIT: Final = "deficit-round-robin-fairness-policy"
ROUND_ROBIN: Final = "round-robin-fairness-policy"
GO_DETECTOR: Final = "lab-go-utilization-detector"


def queueing(
    placing: str | None, fairness: str, ttl: str = TTL, *, go: bool = False
) -> dict[str, Any]:
    """The configuration `placing` (None is the default) with flow control."""
    config: dict[str, Any] = yaml.safe_load(placing or DEFAULT_CONFIG)
    ordering = "fcfs-ordering-policy" if go else "workload-ordering-policy"
    detector = GO_DETECTOR if go else "learned-limit-detector"
    config["plugins"] += [{"type": each} for each in (detector, ordering, fairness)]
    config["featureGates"] = ["flowControl"]
    config["flowControl"] = {
        "defaultRequestTTL": ttl,
        "saturationDetector": {"pluginRef": detector},
        "defaultPriorityBand": {"orderingPolicyRef": ordering, "fairnessPolicyRef": fairness},
    }
    return config


def shedding(placing: str | None) -> dict[str, Any]:
    """The same without: sheddable requests are refused while the pool is saturated."""
    config: dict[str, Any] = yaml.safe_load(placing or DEFAULT_CONFIG)
    config["plugins"].append({"type": GO_DETECTOR})
    config["flowControl"] = {"saturationDetector": {"pluginRef": GO_DETECTOR}}
    return config


def _baseline(about: str, config: dict[str, Any]) -> Baseline:
    return Baseline(about, yaml.safe_dump(config, sort_keys=False))


GO: Final = BASELINES["go-default"].config
EVENTS: Final = configured(
    "lab-events-prefix-producer", "max-score-picker", weights=[("expected-work-scorer", 1)]
)
OVERLOAD: Final[Mapping[str, Baseline]] = {
    "flow-control": _baseline("default with flow control", queueing(None, STRICT)),
    "flow-control-fair": _baseline(
        "the same, prompt tokens in turn from each tenant", queueing(None, DEFICIT)
    ),
    "flow-control-60s": _baseline(
        "default with flow control, waiting as long as it does unless configured",
        queueing(None, STRICT, "60s"),
    ),
    "events": _baseline(
        "default over caches known from events, with flow control as it is unless configured",
        queueing(EVENTS, STRICT, "60s"),
    ),
    "go-shedding": _baseline("go-default, which sheds below priority 0", shedding(GO)),
    "go-flow-control": _baseline(
        "go-default behind the Go picker's queue", queueing(GO, STRICT, go=True)
    ),
    "go-flow-control-fair": _baseline(
        "the same, requests in turn from each tenant", queueing(GO, ROUND_ROBIN, go=True)
    ),
}
GO_QUEUES: Final = frozenset({"go-flow-control", "go-flow-control-fair"})
"""Those whose requests wait in `go_queue.GoQueue`."""
POLICIES: Final[Mapping[str, Baseline]] = {**BASELINES, **OVERLOAD}
