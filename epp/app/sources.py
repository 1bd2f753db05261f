"""Where endpoints and gauges come from, as the options and the configuration say."""

from collections.abc import Callable
from typing import Final, TypeVar

from structlog.typing import FilteringBoundLogger

from epp.assemble import Assembly
from epp.config.options import RunOptions
from epp.config.sources import PlannedSource
from epp.datastore import Datastore
from epp.discovery import FileDiscovery
from epp.domain.endpoint import ENGINE_LABELS
from epp.errors import ConfigError
from epp.plugins.sources.discovery import FileDiscoveryPlugin
from epp.plugins.sources.metrics import CoreMetricsExtractor, EngineMetrics, MetricsDataSource
from epp.scrape import (
    Dialect,
    Dialects,
    FetchSettings,
    FurtherPage,
    HttpFetch,
    ScrapeSettings,
    dialect_from_specs,
    parse_spec,
    with_customs,
)

P = TypeVar("P")
FURTHER: Final = 1.0
"""Seconds between two looks at a page that counts no requests."""


def discovery_of(
    options: RunOptions,
    assembly: Assembly,
    store: Datastore,
    log: FilteringBoundLogger,
    told: Callable[[str], None],
) -> FileDiscovery:
    """The file named by `--endpoints`, else by the configuration's discovery plugin.

    `told` hears what became of each change of it.

    Raises ConfigError when neither names one.
    """
    if options.endpoints:
        return FileDiscovery(options.endpoints, store, log=log, told=told)
    named = assembly.plan.discovery
    plugin = assembly.instances[named.name] if named else None
    if not isinstance(plugin, FileDiscoveryPlugin):
        raise ConfigError(
            [
                "no endpoints: give --endpoints FILE, --pool-name NAME, --endpoint-selector LABELS"
                " or a file-discovery plugin"
            ]
        )
    params = plugin.params
    return FileDiscovery(params.path, store, watch=params.watch_file, log=log, told=told)


def reads_metrics(assembly: Assembly) -> bool:
    """Whether the configuration has a source of metrics that something is read of."""
    return assembly.plan.metrics is not None


def fetch_settings_of(assembly: Assembly) -> FetchSettings:
    """How /metrics is asked for, as the source in the data layer's list says."""
    source = _source_of(assembly)
    return _fetch_settings(source) if source else FetchSettings()


def further_pages_of(options: RunOptions, assembly: Assembly) -> tuple[FurtherPage, ...]:
    """The pages of the data layer's other sources of metrics.

    Raises ConfigError naming the source whose specs cannot be read.
    """
    return tuple(_further(planned, options, assembly) for planned in assembly.plan.further)


def _further(planned: PlannedSource, options: RunOptions, assembly: Assembly) -> FurtherPage:
    source, name = assembly.instances[planned.source.name], planned.source.name
    extractor = planned.extractor and assembly.instances[planned.extractor.name]
    engines = extractor.params.engine_configs if extractor else ()
    metrics = [metric for engine in engines for metric in engine.custom_metrics]
    try:
        custom = {metric.attribute_key: parse_spec(metric.metric_spec) for metric in metrics}
    except ValueError as error:
        raise ConfigError([f"{name}: {error}"]) from error
    interval = max(source.params.interval or FURTHER, options.refresh_metrics_interval)
    return FurtherPage(name, HttpFetch(_fetch_settings(source)), custom, interval)


def _fetch_settings(source: MetricsDataSource) -> FetchSettings:
    params = source.params
    return FetchSettings(
        scheme=params.scheme,
        path=params.path,
        port=params.port,
        insecure_skip_verify=params.insecure_skip_verify,
        ca_cert_path=params.ca_cert_path,
        client_cert_path=params.client_cert_path,
        client_key_path=params.client_key_path,
    )


def scrape_settings_of(options: RunOptions, assembly: Assembly) -> ScrapeSettings:
    """A configured interval holds for busy endpoints; idle ones are asked less often."""
    source = _source_of(assembly)
    interval = source.params.interval if source else None
    return ScrapeSettings(busy=max(interval or 0.0, options.refresh_metrics_interval))


def dialects_of(assembly: Assembly) -> Dialects:
    """The engines' dialects, those of the source's extractor before those built in.

    Raises ConfigError naming the engine whose specs cannot be read.
    """
    extractor = _extractor_of(assembly)
    if extractor is None:
        return Dialects()
    params = extractor.params
    try:
        return Dialects(
            [dialect_of(engine) for engine in params.engine_configs],
            default=params.default_engine,
            labels=(params.engine_label_key, *ENGINE_LABELS),
        )
    except ValueError as error:
        raise ConfigError([f"core-metrics-extractor: {error}"]) from error


def _source_of(assembly: Assembly) -> MetricsDataSource | None:
    metrics = assembly.plan.metrics
    one = assembly.instances[metrics.source.name] if metrics else None
    return one if isinstance(one, MetricsDataSource) else None


def _extractor_of(assembly: Assembly) -> CoreMetricsExtractor | None:
    metrics = assembly.plan.metrics
    one = assembly.instances[metrics.extractor.name] if metrics and metrics.extractor else None
    return one if isinstance(one, CoreMetricsExtractor) else None


def dialect_of(engine: EngineMetrics) -> Dialect:
    """What an engine's page says. Raises ValueError where the specs do not do."""
    custom = {metric.attribute_key: metric.metric_spec for metric in engine.custom_metrics}
    if engine.adds_only:
        return with_customs(engine.name, custom)
    return dialect_from_specs(
        engine.name,
        queued=engine.queued_requests_spec,
        running=engine.running_requests_spec,
        kv_usage=engine.kv_usage_spec,
        lora=engine.lora_spec,
        cache_info=engine.cache_info_spec,
        block_size_label=engine.cache_block_size_label_name or "block_size",
        blocks_label=engine.cache_num_blocks_label_name or "num_gpu_blocks",
        block_size=engine.cache_block_size_spec,
        blocks=engine.cache_num_blocks_spec,
        custom=custom,
    )


def only(assembly: Assembly, kind: type[P]) -> P | None:
    """The first instance of a plugin class, None if none is configured."""
    return next((one for one in assembly.instances.values() if isinstance(one, kind)), None)
