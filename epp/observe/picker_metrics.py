"""The picker itself: what it costs, what it holds, what goes wrong in it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec
from prometheus_client.core import Metric

from epp.observe import bounds
from epp.observe.series import Family, Histogram, Spec, Tally, histograms, old, tallies

PLUGIN: Final = ("plugin_name", "plugin_type")

PHASES: Final = Spec(
    "llm_d_epp_phase_duration_seconds",
    "histogram",
    "The picker's own time on a request, by phase: parse, admit, schedule, reply.",
    ("phase",),
    bounds.PHASE,
)
PLUGINS: Final = Spec(
    "llm_d_epp_plugin_duration_seconds",
    "histogram",
    "Time in one plugin at one extension point, for one request.",
    ("extension_point", "plugin_type", "plugin_name"),
    bounds.SHORT,
    old=old(
        "inference_extension_plugin_duration_seconds",
        "extension_point",
        "plugin_type",
        "plugin_name",
    ),
)
PLUGIN_ERRORS: Final = Spec(
    "llm_d_epp_plugin_errors_total",
    "counter",
    "Times a plugin raised or was late and the request went on without it.",
    ("extension_point", "plugin_type", "plugin_name"),
)
BLIND: Final = Spec(
    "llm_d_epp_plugin_blind",
    "gauge",
    "1 where a configured plugin sees nothing in the response mode the gateway asked for.",
    (*PLUGIN, "response_mode"),
)
POLL_ERRORS: Final = Spec(
    "llm_d_epp_datalayer_poll_errors_total",
    "counter",
    "Scrapes of an endpoint that failed, by kind of source.",
    ("source_type",),
)
EXTRACT_ERRORS: Final = Spec(
    "llm_d_epp_datalayer_extract_errors_total",
    "counter",
    "Scraped pages that could not be read, by kind of source and of extractor.",
    ("source_type", "extractor_type"),
)
PREFIX_SIZE: Final = Spec(
    "llm_d_epp_prefix_indexer_size",
    "gauge",
    "Blocks the prefix index remembers.",
    PLUGIN,
    old=old("inference_extension_prefix_indexer_size"),
)
PREFIX_RATIO: Final = Spec(
    "llm_d_epp_prefix_indexer_hit_ratio",
    "histogram",
    "Share of a prompt found in the prefix index for the endpoint picked, 0 to 1.",
    PLUGIN,
    bounds.SHARE,
    old=old("inference_extension_prefix_indexer_hit_ratio"),
)
PREFIX_BYTES: Final = Spec(
    "llm_d_epp_prefix_indexer_hit_bytes",
    "histogram",
    "Bytes of a prompt found in the prefix index for the endpoint picked.",
    PLUGIN,
    bounds.PREFIX_BYTES,
    old=old("inference_extension_prefix_indexer_hit_bytes"),
)
LAG: Final = Spec(
    "llm_d_epp_event_loop_lag_seconds",
    "gauge",
    "How late the event loop last was; near the core's limit it grows without bound.",
)
LAGS: Final = Spec(
    "llm_d_epp_event_loop_lag_distribution_seconds",
    "histogram",
    "How late the event loop was, sample by sample.",
    bounds=bounds.LAG,
)
RELOADS: Final = Spec(
    "llm_d_epp_config_reloads_total",
    "counter",
    "Reloads of the configuration or of the endpoints file, by outcome: applied, refused.",
    ("what", "outcome"),
)
INFO: Final = Spec(
    "llm_d_epp_info",
    "gauge",
    "Always 1; the labels say which build this is.",
    ("commit", "build_ref"),
    old=old("inference_extension_info", "commit", "build_ref"),
)
STREAMS: Final = Spec(
    "llm_d_epp_extproc_streams_inflight", "gauge", "External processing streams open now."
)
HELD: Final = Spec("llm_d_epp_held_body_bytes", "gauge", "Bytes of request bodies held now.")
HELD_LIMIT: Final = Spec(
    "llm_d_epp_held_body_limit_bytes", "gauge", "Bytes of request bodies that may be held in all."
)
HTTP2: Final = Spec(
    "llm_d_epp_http2_events_total",
    "counter",
    "What happened on the ext_proc port's HTTP/2 connections, by event.",
    ("event",),
)
RECORDS: Final = Spec(
    "llm_d_epp_decision_records", "gauge", "Decision records kept for the debug page."
)


class WireState(msgspec.Struct, frozen=True):
    """What the ext_proc port holds now; `http2` are counters since the start, by event."""

    streams: int = 0
    held_bytes: int = 0
    held_limit: int = 0
    http2: Mapping[str, int] = {}


class PickerMetrics:
    """Bind once, observe often: `phase`, `plugin` and `prefix` return the cell to keep."""

    def __init__(
        self,
        *,
        commit: str = "",
        build_ref: str = "",
        wire_state: Callable[[], WireState] = WireState,
    ) -> None:
        self._wire_state = wire_state
        self.phases = histograms(PHASES)
        self.plugins = histograms(PLUGINS)
        self.plugin_errors = tallies(PLUGIN_ERRORS)
        self.blind = tallies(BLIND)
        self.poll_errors = tallies(POLL_ERRORS)
        self.extract_errors = tallies(EXTRACT_ERRORS)
        self.prefix_size = tallies(PREFIX_SIZE)
        self.prefix_ratio = histograms(PREFIX_RATIO)
        self.prefix_bytes = histograms(PREFIX_BYTES)
        self.lag = tallies(LAG)
        self.lags = histograms(LAGS)
        self.reloads = tallies(RELOADS)
        self.info = tallies(INFO)
        self.records = tallies(RECORDS)
        self.info.bind(commit, build_ref).set(1)
        self._lag, self._lags = self.lag.bind(), self.lags.bind()

    def phase(self, phase: str) -> Histogram:
        """Seconds of one phase: `parse`, `admit`, `schedule` or `reply`."""
        return self.phases.bind(phase)

    def plugin(self, extension_point: str, plugin_type: str, plugin_name: str) -> Histogram:
        """Seconds in one plugin."""
        return self.plugins.bind(extension_point, plugin_type, plugin_name)

    def plugin_failed(self, extension_point: str, plugin_type: str, plugin_name: str) -> None:
        self.plugin_errors.bind(extension_point, plugin_type, plugin_name).add()

    def plugin_blind(self, plugin_name: str, plugin_type: str, mode: str, blind: bool) -> None:
        self.blind.bind(plugin_name, plugin_type, mode).set(float(blind))

    def poll_failed(self, source_type: str) -> None:
        self.poll_errors.bind(source_type).add()

    def extract_failed(self, source_type: str, extractor_type: str) -> None:
        self.extract_errors.bind(source_type, extractor_type).add()

    def prefix(self, plugin_name: str, plugin_type: str) -> tuple[Tally, Histogram, Histogram]:
        """Index size (blocks), hit ratio (0 to 1) and hit bytes of one producer."""
        return (
            self.prefix_size.bind(plugin_name, plugin_type),
            self.prefix_ratio.bind(plugin_name, plugin_type),
            self.prefix_bytes.bind(plugin_name, plugin_type),
        )

    def lagged(self, seconds: float) -> None:
        self._lag.set(seconds)
        self._lags.observe(seconds)

    def reloaded(self, what: str, outcome: str) -> None:
        """`what` is `config` or `endpoints`, `outcome` is `applied` or `refused`."""
        self.reloads.bind(what, outcome).add()

    def families(self) -> tuple[Family[Tally] | Family[Histogram], ...]:
        return (
            self.phases,
            self.plugins,
            self.plugin_errors,
            self.blind,
            self.poll_errors,
            self.extract_errors,
            self.prefix_size,
            self.prefix_ratio,
            self.prefix_bytes,
            self.lag,
            self.lags,
            self.reloads,
            self.info,
            self.records,
        )

    def collect(self, *, old_names: bool) -> Iterator[Metric]:
        for family in (*self.families(), *wire_families(self._wire_state())):
            yield from family.collect(old_names=old_names)


def wire_families(wire: WireState) -> Iterator[Family[Tally]]:
    """The gauges and counters of the ext_proc port."""
    for spec, value in (
        (STREAMS, wire.streams),
        (HELD, wire.held_bytes),
        (HELD_LIMIT, wire.held_limit),
    ):
        family = tallies(spec)
        family.bind().set(value)
        yield family
    events = tallies(HTTP2)
    for event, count in wire.http2.items():
        events.bind(event).set(count)
    yield events
