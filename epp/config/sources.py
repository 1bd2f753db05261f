"""Where knowledge of endpoints comes from: the sources listed, and the one that is added."""

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


def plan_sources(config: EndpointPickerConfig, instances: Instances) -> tuple[PlannedSource, ...]:
    """The sources as listed, then the default one unless a source of metrics is among them.

    Each endpoint has one page that is read, so a second source of metrics is a problem.
    """
    found = []
    metrics: PlannedSource | None = None
    for i, written in enumerate(config.data_layer.sources):
        path: Path = ("dataLayer", "sources", i)
        planned = _source(written, path, instances)
        if planned is None:
            continue
        found.append(planned)
        if planned.source.type == DEFAULT_SOURCE:
            _check(planned, metrics, path, instances)
            metrics = metrics or planned
    if metrics is None and not instances.broken:
        found += _default(config, instances)
    return tuple(found)


def _source(written: Source, path: Path, instances: Instances) -> PlannedSource | None:
    planned = instances.refer(written.plugin_ref, (*path, "pluginRef"), "data-source")
    extractors = [
        instances.refer(ref.plugin_ref, (*path, "extractors", i, "pluginRef"), "extractor")
        for i, ref in enumerate(written.extractors)
    ]
    return PlannedSource(planned, tuple(one for one in extractors if one)) if planned else None


def _check(
    planned: PlannedSource, first: PlannedSource | None, path: Path, instances: Instances
) -> None:
    """One source of metrics, with one extractor of gauges."""
    name = planned.source.name
    if first is not None:
        instances.problems.add(
            (*path, "pluginRef"),
            f"{name} is a second source of metrics beside {first.source.name}: one page of each "
            "endpoint is read; keep one, with customMetrics for what else its page says",
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
