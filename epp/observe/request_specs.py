"""What the metrics of requests are called and mean."""

from typing import Final

from epp.observe import bounds
from epp.observe.series import Kind, Spec, old

BY_REQUEST: Final = ("model_name", "target_model_name", "fairness_id", "priority")
BY_MODEL: Final = ("model_name", "target_model_name")


def by_request(
    stem: str,
    old_stem: str,
    meaning: str,
    limits: tuple[float, ...],
    *,
    more: tuple[str, ...] = (),
) -> Spec:
    """A histogram by request labels whose older name goes by model alone."""
    return Spec(
        name=f"llm_d_epp_{stem}",
        kind="histogram",
        help=meaning,
        labels=(*BY_REQUEST, *more),
        bounds=limits,
        old=old(f"inference_objective_{old_stem}", *BY_MODEL) if old_stem else None,
    )


def plain(kind: Kind, stem: str, meaning: str, labels: tuple[str, ...], old_labels: str) -> Spec:
    """A counter or gauge; `old_labels` is `old name: label label`."""
    name, _, words = old_labels.partition(":")
    return Spec(
        name=f"llm_d_epp_{stem}",
        kind=kind,
        help=meaning,
        labels=labels,
        old=old(f"inference_objective_{name}", *words.split()),
    )


REQUESTS: Final = plain(
    "counter",
    "request_total",
    "Requests that could be attributed, placed or refused.",
    BY_REQUEST,
    "request_total: model_name target_model_name priority",
)
ERRORS: Final = plain(
    "counter",
    "request_error_total",
    "Requests refused by the picker or failed by the model server, by error code.",
    (*BY_REQUEST, "error_code"),
    "request_error_total: model_name target_model_name error_code",
)
RUNNING: Final = plain(
    "gauge",
    "request_running",
    "Requests placed that have not ended.",
    BY_REQUEST,
    "running_requests: model_name",
)
DURATION: Final = by_request(
    "request_duration_seconds",
    "request_duration_seconds",
    "From a request's arrival to the end of its response.",
    bounds.DURATION,
)
REQUEST_BYTES: Final = by_request(
    "request_size_bytes", "request_sizes", "Bytes of the request body.", bounds.REQUEST_BYTES
)
RESPONSE_BYTES: Final = by_request(
    "response_size_bytes", "response_sizes", "Bytes of the response body.", bounds.RESPONSE_BYTES
)
INPUT_TOKENS: Final = by_request(
    "request_input_tokens",
    "input_tokens",
    "Prompt tokens, as the model server reported them.",
    bounds.INPUT_TOKENS,
)
CACHED_TOKENS: Final = by_request(
    "request_cached_tokens",
    "prompt_cached_tokens",
    "Prompt tokens the model server had in its cache.",
    bounds.INPUT_TOKENS,
)
OUTPUT_TOKENS: Final = by_request(
    "request_output_tokens",
    "output_tokens",
    "Completion tokens, as the model server reported them.",
    bounds.OUTPUT_TOKENS,
)
NTPOT: Final = by_request(
    "request_ntpot_seconds",
    "normalized_time_per_output_token_seconds",
    "Request duration divided by completion tokens.",
    bounds.PER_TOKEN,
)
TTFT: Final = by_request(
    "request_ttft_seconds",
    "request_ttft_seconds",
    "From a request's arrival to the first piece of its response body.",
    bounds.FIRST_TOKEN,
    more=("streaming",),
)
TPOT: Final = by_request(
    "request_streaming_tpot_seconds",
    "request_tpot_seconds",
    "Time per output token after the first, of streamed responses.",
    bounds.PER_TOKEN,
)
ITL: Final = by_request(
    "request_streaming_itl_seconds",
    "",
    "Time between two pieces of a streamed response.",
    bounds.PER_TOKEN,
)
SCHEDULING: Final = Spec(
    "llm_d_epp_scheduler_e2e_duration_seconds",
    "histogram",
    "From the view of the pool to the pick, screens and facts of the pool included.",
    bounds=bounds.SHORT,
    old=old("inference_extension_scheduler_e2e_duration_seconds"),
)
ATTEMPTS: Final = Spec(
    "llm_d_epp_scheduler_attempts_total",
    "counter",
    "Attempts to place a request, by endpoint chosen; its labels are empty on failure.",
    ("status", "target_model_name", "endpoint_name", "namespace", "port"),
    old=old(
        "inference_extension_scheduler_attempts_total",
        "status",
        "target_model_name",
        "namespace",
        "port",
        pod_name="endpoint_name",
    ),
)
REFUSALS: Final = Spec(
    "llm_d_epp_refusals_total",
    "counter",
    "Requests answered by the picker itself, by status and by the reason header's value.",
    ("status", "reason"),
)
PROCESSING: Final = Spec(
    "llm_d_epp_request_processing_duration_seconds",
    "histogram",
    "From a request's arrival to its answer by the picker, waiting for admission included.",
    bounds=bounds.PHASE,
)
