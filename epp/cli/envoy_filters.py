"""What happens to a request inside Envoy: the listener, its filters, the route."""

from typing import Final

from epp.cli.envoy_template import Gateway, Tree, seconds, shown, socket_address, typed, window
from epp.domain.headers import (
    CONTROL_HEADERS,
    DESTINATION,
    FAIRNESS_ID,
    LB_NAMESPACE,
    MODEL_REWRITE,
    OBJECTIVE,
    REQUEST_TTL_MS,
    SLO_TPOT_MS,
    SLO_TTFT_MS,
    SUBSET_NAMESPACE,
    WORKLOAD,
)

POOL: Final = "pool"
PICKER: Final = "ext_proc"
PICKER_SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"

CLIENT_WISHES: Final = frozenset(
    (
        *OBJECTIVE,
        *FAIRNESS_ID,
        *MODEL_REWRITE,
        *SLO_TTFT_MS,
        *SLO_TPOT_MS,
        *REQUEST_TTL_MS,
        *WORKLOAD,
    )
)
"""Control headers that ask for something; all others steer, and no client may send them."""

_HTTP: Final = "extensions.filters.http"
_DUPLEX_LISTENER_BYTES: Final = 1024 * 1024
_STREAM_IDLE_SECONDS: Final = 3600


def listener(gateway: Gateway) -> Tree:
    """The one listener, with the connection manager that does all the work."""
    return {
        "name": "gateway",
        "address": socket_address(gateway.listen),
        "per_connection_buffer_limit_bytes": held_bytes(gateway),
        "filter_chains": [{"filters": [connection_manager(gateway)]}],
    }


def held_bytes(gateway: Gateway) -> int:
    """What Envoy holds of one request: buffered is the whole body, 413 above; duplex a share."""
    return gateway.body_bytes if gateway.request == "buffered" else _DUPLEX_LISTENER_BYTES


def connection_manager(gateway: Gateway) -> Tree:
    # An HTTP/2 client's body is held against its stream's window, not the connection's limit.
    http2 = {
        "max_concurrent_streams": 1000,
        "initial_stream_window_size": window(held_bytes(gateway)),
        "initial_connection_window_size": window(4 * held_bytes(gateway)),
    }
    return typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="gateway",
        codec_type="AUTO",
        use_remote_address=True,
        # A client asks `epp explain` by the id it sent, or by the one it was given.
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="UNESCAPE_AND_REDIRECT",
        common_http_protocol_options={"headers_with_underscores_action": "REJECT_REQUEST"},
        http2_protocol_options=http2,
        stream_idle_timeout=seconds(_STREAM_IDLE_SECONDS),
        http_filters=[strip_filter(gateway), picker_filter(gateway), router_filter()],
        route_config=route_config(gateway),
    )


def strip_filter(gateway: Gateway) -> Tree:
    """Removes what only a gateway or a picker may say, before the picker hears it."""
    kept = CLIENT_WISHES if gateway.trust_client_headers else frozenset()
    names = sorted({*CONTROL_HEADERS, DESTINATION} - kept)
    return typed(
        "envoy.filters.http.header_mutation",
        f"{_HTTP}.header_mutation.v3.HeaderMutation",
        mutations={"request_mutations": [{"remove": name} for name in names]},
    )


def picker_filter(gateway: Gateway) -> Tree:
    namespaces = {"untyped": [LB_NAMESPACE, SUBSET_NAMESPACE]}
    return typed(
        "envoy.filters.http.ext_proc",
        f"{_HTTP}.ext_proc.v3.ExternalProcessor",
        grpc_service={"envoy_grpc": {"cluster_name": PICKER}},
        failure_mode_allow=gateway.fail_open,
        # Without it a closed failure is a 500, which clients do not retry.
        status_on_error={"code": "ServiceUnavailable"},
        message_timeout=seconds(gateway.message_timeout),
        processing_mode=processing_mode(gateway),
        metadata_options={
            "forwarding_namespaces": namespaces,
            "receiving_namespaces": {"untyped": [LB_NAMESPACE]},
        },
    )


def processing_mode(gateway: Gateway) -> Tree:
    """Which messages Envoy sends: one way of asking, one of hearing the response."""
    duplex = gateway.request == "duplex"
    # Streamed, not duplex, where it can be: an answer streamed so outlives a picker that dies.
    body = "FULL_DUPLEX_STREAMED" if duplex else "STREAMED"
    return {
        "request_header_mode": "SEND",
        "request_body_mode": "FULL_DUPLEX_STREAMED" if duplex else "BUFFERED",
        "request_trailer_mode": "SEND" if duplex else "SKIP",
        "response_header_mode": "SEND",
        "response_body_mode": body if gateway.response == "full" else "NONE",
        # Trailers keep the stream open until the response is over, even where none ever come.
        "response_trailer_mode": "SKIP" if gateway.response == "forget" else "SEND",
    }


def router_filter() -> Tree:
    return typed("envoy.filters.http.router", f"{_HTTP}.router.v3.Router")


def route_config(gateway: Gateway) -> Tree:
    """Everything to the pool, without a bound on how long an answer takes."""
    retries = retry_policy(gateway) if gateway.request == "buffered" else None
    action = shown({"cluster": POOL, "timeout": "0s", "retry_policy": retries})
    route = {"match": {"prefix": "/"}, "route": action}
    host = {"name": "pool", "domains": ["*"], "routes": [route]}
    return {"name": "pool", "virtual_hosts": [host]}


def retry_policy(gateway: Gateway) -> Tree:
    """Only what has not reached a model server is tried again: no prompt is computed twice.

    With host override a retry takes the next address of the picker's list, then any other. Never in
    duplex: Envoy 1.36 to 1.40 keeps a copy of the body for retries and, when a request ends by
    trailers, sends that copy after the body itself.
    """
    override = gateway.balancing == "override-host"
    previous = typed(
        "envoy.retry_host_predicates.previous_hosts",
        "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    )
    return shown(
        {
            "retry_on": "connect-failure,refused-stream,reset-before-request",
            "num_retries": 2 if override else 1,
            "retry_host_predicate": [previous] if override else None,
            "host_selection_retry_max_attempts": 5 if override else None,
            "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.250s"},
        }
    )
