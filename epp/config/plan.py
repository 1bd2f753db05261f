"""A configuration checked against a catalogue: which plugins there will be, and where they stand.

Pure: nothing is built. `epp.assemble` builds from it, `explain` shows it.
"""

from dataclasses import dataclass
from typing import Final

from epp.config.catalogue import Catalogue
from epp.config.dataflow import add_producers, in_order
from epp.config.default import (
    DEFAULT_DETECTOR,
    DEFAULT_PARSERS,
    DEFAULT_QUEUE_DETECTOR,
    DEFAULT_SOURCE,
)
from epp.config.instances import Instances, Planned
from epp.config.load import LoadedConfig
from epp.config.problems import Path, Problems
from epp.config.profiles import PlannedProfile, plan_handler, plan_profiles
from epp.config.queues import GATE, PlannedQueues, plan_queues
from epp.config.references import resolve
from epp.config.schema import EndpointPickerConfig
from epp.config.sources import PlannedSource, engines_page, plan_sources

ON_THEIR_OWN: Final = frozenset(
    {
        "header-processor",
        "fact-producer",
        "screener",
        "pool-producer",
        "admitter",
        "profile-handler",
        "pick-observer",
        "response-observer",
        "usage-reader",
        "reporter",
        "end-observer",
    }
)
"""Points at which a plugin takes part by being configured; elsewhere something must name it."""


@dataclass(slots=True, frozen=True)
class Plan:
    """Everything that will run under a configuration."""

    loaded: LoadedConfig
    plugins: tuple[Planned, ...]
    """All of them: configured ones in the order of the file, then injected ones."""
    profiles: tuple[PlannedProfile, ...]
    handler: Planned | None
    """None where the only profile runs by itself."""
    parsers: tuple[Planned, ...]
    producers: tuple[Planned, ...]
    """Of facts and of columns, each after those whose output it consumes."""
    detector: Planned | None
    queues: PlannedQueues | None
    """None where flow control is off."""
    sources: tuple[PlannedSource, ...]
    discovery: Planned | None
    warnings: tuple[str, ...]

    def at(self, point: str) -> tuple[Planned, ...]:
        """The plugins that take part at `point` by being configured, in order."""
        return tuple(p for p in self.plugins if point in p.points)

    @property
    def metrics(self) -> PlannedSource | None:
        """The source of metrics that is read; None where there is none, or nobody reads it."""
        found = engines_page(one for one in self.sources if one.source.type == DEFAULT_SOURCE)
        return found if found and found.extractor else None

    @property
    def further(self) -> tuple[PlannedSource, ...]:
        """Sources of metrics beside it, each another page of every endpoint."""
        others = (one for one in self.sources if one.source.type == DEFAULT_SOURCE)
        return tuple(one for one in others if one.adds_only and one is not self.metrics)


def plan(loaded: LoadedConfig, catalogue: Catalogue) -> Plan:
    """Check every type, parameter and reference, and fill what is left out.

    Raises ConfigError with all problems at once.
    """
    problems = Problems(loaded.place, warnings=list(loaded.warnings))
    config = loaded.config
    instances = Instances.of(config.plugins, catalogue, problems)
    profiles = plan_profiles(config.scheduling_profiles, instances)
    handler = plan_handler(profiles, config, instances)
    parsers = _parsers(config, instances)
    detector = _detector(config, instances)
    sources = plan_sources(config, instances)
    discovery = _discovery(config, instances)
    queues = plan_queues(config, instances)
    resolve(instances, [profile.name for profile in profiles])
    add_producers(instances)
    producers = in_order(instances)
    _warn_unused(instances)
    problems.raise_any()
    return Plan(
        loaded=loaded,
        plugins=tuple(instances),
        profiles=profiles,
        handler=handler,
        parsers=parsers,
        producers=producers,
        detector=detector,
        queues=queues,
        sources=sources,
        discovery=discovery,
        warnings=tuple(problems.warnings),
    )


def _parsers(config: EndpointPickerConfig, instances: Instances) -> tuple[Planned, ...]:
    refs = config.request_handler.parsers
    if not refs:
        found = (instances.inject(t, "no parser is listed") for t in DEFAULT_PARSERS)
    else:
        found = (
            instances.refer(ref.plugin_ref, ("requestHandler", "parsers", i, "pluginRef"), "parser")
            for i, ref in enumerate(refs)
        )
    return tuple(parser for parser in found if parser)


def _detector(config: EndpointPickerConfig, instances: Instances) -> Planned | None:
    if config.flow_control and (ref := config.flow_control.saturation_detector):
        path: Path = ("flowControl", "saturationDetector", "pluginRef")
        return instances.refer(ref.plugin_ref, path, "saturation-detector")
    detector = DEFAULT_QUEUE_DETECTOR if config.gate(GATE) else DEFAULT_DETECTOR
    return instances.inject(detector, "no saturation detector is named")


def _discovery(config: EndpointPickerConfig, instances: Instances) -> Planned | None:
    layer = config.data_layer
    for ref, key in (
        (layer.peer_discovery, "peerDiscovery"),
        (layer.cross_replica_syncer_plugin_ref, "crossReplicaSyncerPluginRef"),
    ):
        if ref:
            instances.problems.add(
                ("dataLayer", key), "is not offered: no plugin of this kind exists; remove it"
            )
    if layer.discovery is None:
        return None
    path: Path = ("dataLayer", "discovery", "pluginRef")
    return instances.refer(layer.discovery.plugin_ref, path, "discovery")


def _warn_unused(instances: Instances) -> None:
    for planned in instances:
        named = planned.name in instances.used or not planned.path
        if hasattr(planned.plugin, "idle") or getattr(planned.plugin, "unnamed", False):
            continue
        if not named and ON_THEIR_OWN.isdisjoint(planned.points):
            kinds = " or ".join(planned.points)
            instances.problems.warn(
                planned.path, f"{planned.name} ({kinds}) is configured but nothing names it"
            )
