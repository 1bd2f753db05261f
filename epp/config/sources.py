"""Where knowledge of endpoints comes from: the sources listed, and the one that is added."""

from collections.abc import Iterable
from dataclasses import dataclass

from epp.config.default import DEFAULT_EXTRACTOR, DEFAULT_SOURCE
from epp.config.instances import Instances, Planned
from epp.config.problems import Path
from epp.config.schema import EndpointPickerConfig, Source


@dataclass(slots=True, frozen=True)
class PlannedSource:
    """A data source and its extractors."""

    source: Planned
    extractors: tuple[Planned, ...]

    @property
    def extractor(self) -> Planned | None:
        """What reads gauges out of a source of metrics."""
        return next((one for one in self.extractors if one.type == DEFAULT_EXTRACTOR), None)

    @property
    def adds_only(self) -> bool:
        """Whether columns are read of its pages, and no gauges of requests."""
        return bool(self.extractor and getattr(self.extractor.params, "adds_only", False))


def plan_sources(config: EndpointPickerConfig, instances: Instances) -> tuple[PlannedSource, ...]:
    """The sources as listed, then the default one unless a source of metrics is among them."""
    found = {}
    for i, written in enumerate(config.data_layer.sources):
        path: Path = ("dataLayer", "sources", i)
        if planned := _source(written, path, instances):
            found[path] = planned
    metrics = {path: one for path, one in found.items() if one.source.type == DEFAULT_SOURCE}
    engines = engines_page(metrics.values())
    for path, planned in metrics.items():
        _check(planned, engines, path, instances)
    if engines is None and not instances.broken:
        return (*found.values(), *_default(config, instances))
    return tuple(found.values())


def engines_page(metrics: Iterable[PlannedSource]) -> PlannedSource | None:
    """The source that counts requests: the first that does not only add; else the first."""
    listed = list(metrics)
    return next((one for one in listed if not one.adds_only), listed[0] if listed else None)


def _source(written: Source, path: Path, instances: Instances) -> PlannedSource | None:
    planned = instances.refer(written.plugin_ref, (*path, "pluginRef"), "data-source")
    extractors = [
        instances.refer(ref.plugin_ref, (*path, "extractors", i, "pluginRef"), "extractor")
        for i, ref in enumerate(written.extractors)
    ]
    return PlannedSource(planned, tuple(one for one in extractors if one)) if planned else None


def _check(
    planned: PlannedSource, engines: PlannedSource | None, path: Path, instances: Instances
) -> None:
    """Requests are counted on one page of each endpoint, by one extractor."""
    name = planned.source.name
    if engines is not None and planned is not engines and not planned.adds_only:
        instances.problems.add(
            (*path, "pluginRef"),
            f"{name} is a second source of metrics beside {engines.source.name}, and requests are "
            "counted on one page; give it an extractor with customMetrics alone, or remove it",
        )
    elif sum(one.type == DEFAULT_EXTRACTOR for one in planned.extractors) > 1:
        instances.problems.add(
            (*path, "extractors"),
            f"{name} has two extractors of gauges; put their engineConfigs into one",
        )
    elif planned.extractor is None and not instances.broken:
        instances.problems.warn(
            path,
            f"{name} names no {DEFAULT_EXTRACTOR}, so nothing is read of its pages; add it under "
            "extractors",
        )


def _default(config: EndpointPickerConfig, instances: Instances) -> list[PlannedSource]:
    if not config.data_layer.inject_defaults:
        instances.problems.warn(
            ("dataLayer", "injectDefaults"),
            "no source of metrics is listed: endpoints are known by what is sent to them alone",
        )
        return []
    source = instances.inject(DEFAULT_SOURCE, "dataLayer.injectDefaults")
    extractor = instances.inject(DEFAULT_EXTRACTOR, "dataLayer.injectDefaults")
    return [PlannedSource(source, (extractor,))] if source and extractor else []
