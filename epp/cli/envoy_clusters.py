"""Where requests go: the pool's endpoints, and the pickers that choose among them."""

import ipaddress
from collections.abc import Sequence
from typing import Final

from epp.cli.envoy_filters import PICKER, PICKER_SERVICE, POOL
from epp.cli.envoy_template import (
    UNIX,
    Address,
    Gateway,
    Tree,
    seconds,
    shown,
    socket_address,
    typed,
    window,
)
from epp.domain.headers import DESTINATION, LB_NAMESPACE

_POLICIES: Final = "extensions.load_balancing_policies"
_PROTOCOLS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_MANY: Final = 40_000
_BREAKERS: Final = {
    "thresholds": [
        {
            "max_connections": _MANY,
            "max_pending_requests": _MANY,
            "max_requests": _MANY,
            "max_retries": 1024,
        }
    ]
}
# Model servers on uvicorn close an idle connection after 5 s; whoever is first need not retry.
_IDLE_SECONDS: Final = 4
_PICKER_STREAM_BYTES: Final = 1024 * 1024
_PICKER_CONNECTION_BYTES: Final = 16 * 1024 * 1024


def pool_cluster(gateway: Gateway) -> Tree:
    """The model servers."""
    common = {
        "name": POOL,
        "connect_timeout": seconds(gateway.connect_timeout),
        "circuit_breakers": _BREAKERS,
        "typed_extension_protocol_options": http_options(
            {"http_protocol_options": {}}, idle_seconds=_IDLE_SECONDS
        ),
    }
    if gateway.balancing == "original-dst":
        return {**common, **original_destination()}
    members = listed(POOL, pool_members(gateway))
    if gateway.service is not None:
        # A pod is picked as soon as it is ready; one that Envoy has not heard of is not obeyed.
        members["dns_refresh_rate"] = "1s"
    return {**common, **members, "load_balancing_policy": override()}


def pool_members(gateway: Gateway) -> Sequence[Address]:
    """Addresses to balance over; a service stands for all that its name resolves to."""
    return gateway.endpoints or ((gateway.service,) if gateway.service else ())


def original_destination() -> Tree:
    """Goes wherever the header says: one address, so the picker must name no more than one."""
    return {
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": DESTINATION},
    }


def override() -> Tree:
    """The picker's choice as it stands in the metadata, which no client can write; else in turn."""
    choice = {"metadata": {"key": LB_NAMESPACE, "path": [{"key": DESTINATION}]}}
    in_turn = typed(
        "envoy.load_balancing_policies.round_robin", f"{_POLICIES}.round_robin.v3.RoundRobin"
    )
    first = typed(
        "envoy.load_balancing_policies.override_host",
        f"{_POLICIES}.override_host.v3.OverrideHost",
        override_host_sources=[choice],
        fallback_policy={"policies": [{"typed_extension_config": in_turn}]},
    )
    return {"policies": [{"typed_extension_config": first}]}


def picker_cluster(gateway: Gateway) -> Tree:
    """The pickers; only those whose health service says they may be asked."""
    options = {
        "http2_protocol_options": {
            "initial_stream_window_size": window(_PICKER_STREAM_BYTES),
            "initial_connection_window_size": window(_PICKER_CONNECTION_BYTES),
        }
    }
    return shown(
        {
            "name": PICKER,
            "connect_timeout": seconds(min(1.0, gateway.connect_timeout)),
            "circuit_breakers": _BREAKERS,
            "typed_extension_protocol_options": http_options(options),
            **listed(PICKER, gateway.pickers),
            "lb_policy": "LEAST_REQUEST",
            # One leader of three lies below the default threshold, and the others would be asked
            # too. Where none is healthy all are: one that drains or is not ready still answers.
            "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
            "health_checks": [health_check()],
            "transport_socket": tls() if gateway.picker_tls and not beside(gateway) else None,
        }
    )


def beside(gateway: Gateway) -> bool:
    """Whether pickers are reached through Unix sockets, which are never encrypted."""
    return any(host.startswith(UNIX) for host, _ in gateway.pickers)


def health_check() -> Tree:
    return {
        "timeout": "1s",
        "interval": "2s",
        # Without it a gateway that is idle looks once a minute.
        "no_traffic_interval": "2s",
        "unhealthy_interval": "1s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "reuse_connection": True,
        "grpc_health_check": {"service_name": PICKER_SERVICE},
    }


def tls() -> Tree:
    """Encrypted, with any certificate: the picker's own is self-signed unless it is given one."""
    common = {"alpn_protocols": ["h2"], "validation_context": {}}
    return typed(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=common,
    )


def listed(name: str, members: Sequence[Address]) -> Tree:
    """A cluster of `members`; one that has names among them is resolved again and again."""
    endpoints = [{"endpoint": {"address": socket_address(member)}} for member in members]
    return {
        "type": "STATIC" if all(_is_numeric(host) for host, _ in members) else "STRICT_DNS",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def http_options(explicit: Tree, *, idle_seconds: float | None = None) -> Tree:
    """How to speak HTTP with the members of a cluster."""
    options: Tree = {
        "@type": f"type.googleapis.com/{_PROTOCOLS}",
        "explicit_http_config": explicit,
    }
    if idle_seconds is not None:
        options["common_http_protocol_options"] = {"idle_timeout": seconds(idle_seconds)}
    return {_PROTOCOLS: options}


def _is_numeric(host: str) -> bool:
    """Whether there is nothing to resolve."""
    if host.startswith(UNIX):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
