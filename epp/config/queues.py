"""The flow control block of a configuration: which policies its bands use."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from epp.config.instances import Instances, Planned
from epp.config.problems import Path
from epp.config.schema import Band, EndpointPickerConfig, FlowControl

DEFAULT_ORDERING: Final = "workload-ordering-policy"
DEFAULT_FAIRNESS: Final = "global-strict-fairness-policy"
DEFAULT_USAGE: Final = "static-usage-limit-policy"
GATE: Final = "flowControl"
NOTHING_WRITTEN: Final = FlowControl.model_validate({})


@dataclass(slots=True, frozen=True)
class PlannedBand:
    """Limits as written (0 for the default), policies by the names of their instances."""

    written: Band
    ordering: str
    fairness: str


@dataclass(slots=True, frozen=True)
class PlannedQueues:
    """Flow control that is switched on."""

    written: FlowControl
    positive: PlannedBand
    negative: PlannedBand
    usage: str
    bands: dict[int, PlannedBand] = field(default_factory=dict)


def plan_queues(config: EndpointPickerConfig, instances: Instances) -> PlannedQueues | None:
    """Check the block, and fill what is left out if the gate is on; None if it is off."""
    written = config.flow_control or NOTHING_WRITTEN
    _check_bands(written, instances)
    on = config.gate(GATE)
    usage = _usage(written, instances, on=on)
    planned = {where: _band(where, band, instances, on=on) for where, band in _bands(written)}
    if not on:
        if written.model_copy(update={"saturation_detector": None}) != NOTHING_WRITTEN:
            instances.problems.warn(
                ("flowControl",), f"has no effect: add {GATE} to featureGates to queue requests"
            )
        return None
    *own, positive, negative = planned.values()
    return PlannedQueues(
        written,
        positive=positive,
        negative=negative,
        usage=usage,
        bands={band.priority: p for band, p in zip(written.priority_bands, own, strict=True)},
    )


def _bands(written: FlowControl) -> Iterator[tuple[Path, Band]]:
    """Those of a priority in the order of the file, then the two templates."""
    for i, band in enumerate(written.priority_bands):
        yield ("priorityBands", i), band
    positive = written.default_priority_band or Band()
    yield ("defaultPriorityBand",), positive
    yield ("defaultNegativePriorityBand",), written.default_negative_priority_band or positive


def _band(where: Path, band: Band, instances: Instances, *, on: bool) -> PlannedBand:
    path: Path = ("flowControl", *where)
    ordering = _policy(band.ordering_policy_ref, (*path, "orderingPolicyRef"), instances, on=on)
    fairness = _policy(band.fairness_policy_ref, (*path, "fairnessPolicyRef"), instances, on=on)
    return PlannedBand(band, ordering, fairness)


_DEFAULTS: Final = {
    "orderingPolicyRef": ("ordering-policy", DEFAULT_ORDERING),
    "fairnessPolicyRef": ("fairness-policy", DEFAULT_FAIRNESS),
    "usageLimitPolicyPluginRef": ("usage-limit-policy", DEFAULT_USAGE),
}


def _usage(written: FlowControl, instances: Instances, *, on: bool) -> str:
    path: Path = ("flowControl", "usageLimitPolicyPluginRef")
    return _policy(written.usage_limit_policy_plugin_ref, path, instances, on=on)


def _policy(name: str | None, path: Path, instances: Instances, *, on: bool) -> str:
    """The name of the instance to use; empty where there is none."""
    point, default = _DEFAULTS[str(path[-1])]
    planned: Planned | None = None
    if name:
        planned = instances.refer(name, path, point)
    elif on:
        planned = instances.inject(default, f"no {path[-1]} is written")
    return planned.name if planned else ""


def _check_bands(written: FlowControl, instances: Instances) -> None:
    priorities = [band.priority for band in written.priority_bands]
    for i, priority in enumerate(priorities):
        if priority in priorities[:i]:
            instances.problems.add(
                ("flowControl", "priorityBands", i, "priority"),
                f"{priority} has a band already; merge the two",
            )
