"""What the metrics of the picker itself are called and mean."""

from typing import Final

from epp.observe import bounds
from epp.observe.series import Spec, old

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
TASKS: Final = Spec(
    "llm_d_epp_background_task_deaths_total",
    "counter",
    "Long tasks that died of a fault and were begun again, by task.",
    ("task",),
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


SCRAPES: Final = Spec("llm_d_epp_scrapes_total", "counter", "Scrapes of endpoints, good and bad.")
SCRAPE_ERRORS: Final = Spec(
    "llm_d_epp_scrape_errors_total",
    "counter",
    "Scrapes of endpoints that failed, by reason.",
    ("reason",),
)
PAGE_BYTES: Final = Spec(
    "llm_d_epp_scrape_page_bytes_total", "counter", "Bytes of the pages that were scraped."
)
