"""What the command line of `epp run` asks for, with every default in this one place."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from epp.domain.headers import CLIENT_HEADERS
from epp.errors import ConfigError

Wire: TypeAlias = Literal["http2", "grpcio"]
LARGEST_PORT = 65535
MOST_TARGET_PORTS = 8
LONGEST_SOCKET_PATH = 107
"""Bytes that fit into a Unix socket's address, on Linux."""


@dataclass(slots=True, frozen=True, kw_only=True)
class RunOptions:
    """Options of one picker process. Times in seconds, sizes in bytes.

    An empty host means all addresses, port 0 any free one; an empty path or text means not given.
    """

    # -- where endpoints come from ------------------------------------------------------------
    endpoints: str = ""
    """File of endpoints, watched."""
    pool_name: str = ""
    pool_namespace: str = "default"
    pool_group: str = "inference.networking.k8s.io"
    endpoint_selector: str = ""
    endpoint_target_ports: tuple[int, ...] = ()
    disable_endpoint_subset_filter: bool = False
    client_headers: tuple[str, ...] = tuple(CLIENT_HEADERS)
    """Groups of headers that are read from requests; those of the Go pickers and our own."""
    pod_name: str = ""

    # -- which of several pickers leads -------------------------------------------------------
    ha_enable_leader_election: bool = False
    leader_elect_lease_duration: float = 15.0
    leader_elect_renew_deadline: float = 10.0
    leader_elect_retry_period: float = 2.0
    leader_elect_resource_name: str = ""
    """Name of the Lease; empty is `epp-NAMESPACE-POOL.llm-d.ai`."""
    leader_label: str = ""
    """Label `name` or `name=value` that the leader puts on its own pod; readiness then does not
    depend on leading."""

    # -- what decides -------------------------------------------------------------------------
    config_file: str = ""
    config_text: str = ""
    plugin_files: tuple[str, ...] = ()
    """Files of Python with plugins, loaded besides those installed."""
    session_key_file: str = ""
    """Key that signs session tokens; pickers that share it accept each other's."""
    refresh_metrics_interval: float = 0.05
    """The shortest time between two scrapes of one endpoint."""

    # -- listeners ----------------------------------------------------------------------------
    wire: Wire = "http2"
    grpc_host: str = ""
    grpc_port: int = 9002
    """Of ext_proc; -1 serves it on `grpc_socket` alone."""
    grpc_reuse_port: bool = False
    grpc_socket: str = ""
    """Path of a Unix socket that serves ext_proc too, unencrypted."""
    grpc_health_port: int = 9003
    metrics_host: str = ""
    metrics_port: int = 9090
    metrics_endpoint_auth: bool = True
    metrics_cert_dir: str = ""
    """Folder with `tls.crt` and `tls.key`; /metrics is served without TLS where there is none."""
    metrics_client_ca_file: str = ""
    debug_host: str = "127.0.0.1"
    debug_port: int = 9091
    """-1 serves no debug pages."""
    debug_allowed_hosts: tuple[str, ...] = ()
    secure_serving: bool = True
    cert_path: str = ""
    """Folder with `tls.crt` and `tls.key`; a certificate is made at start without it."""
    tls_min_version: str = ""
    tls_cipher_suites: tuple[str, ...] = ()
    drain_timeout: float = 30.0

    # -- limits -------------------------------------------------------------------------------
    max_body_bytes: int = 32 << 20
    max_held_bytes: int = 256 << 20
    """Of all bodies together."""
    max_header_bytes: int = 64 << 10
    max_json_depth: int = 64
    wire_limits: tuple[str, ...] = ()
    """Limits of the wire, each `name=value`; the wire knows the names."""
    max_loop_lag: float = 0.5
    """How late the event loop may be before new requests are refused as overloaded; 0 is never."""

    # -- what is shown ------------------------------------------------------------------------
    verbosity: int = 2
    log_encoder: Literal["json", "console"] = "json"
    tracing: bool = True
    emit_old_metrics: bool = True
    emit_endpoint_scores: bool = False
    response_headers: bool = False
    """Response headers `x-epp-endpoint` and `x-epp-reason`."""

    ignored: tuple[str, ...] = ()
    """Flags that were given and mean nothing to this picker; worth one line of log."""

    def check(self) -> "RunOptions":
        """The same options. Raises ConfigError with every contradiction among them."""
        problems = [*self._contradictions(), *self._out_of_range()]
        if problems:
            raise ConfigError(problems)
        return self

    def _contradictions(self) -> list[str]:
        problems = []
        sources = {
            "--endpoints": self.endpoints,
            "--pool-name": self.pool_name,
            "--endpoint-selector": self.endpoint_selector,
        }
        given = [flag for flag, value in sources.items() if value]
        if len(given) > 1:
            problems.append(f"{' and '.join(given)} exclude each other: give one of them")
        if self.config_file and self.config_text:
            problems.append("--config-file and --config-text exclude each other: give one of them")
        if self.endpoint_selector and not self.endpoint_target_ports:
            problems.append("--endpoint-selector needs --endpoint-target-ports, for example 8000")
        if self.leader_label and not self.ha_enable_leader_election:
            problems.append("--leader-label needs --ha-enable-leader-election")
        if self.leader_label and not self.pod_name:
            problems.append("--leader-label needs --pod-name, or POD_NAME in the environment")
        if self.metrics_client_ca_file and not self.metrics_cert_dir:
            problems.append("--metrics-client-ca-file needs --metrics-cert-dir")
        return problems

    def _out_of_range(self) -> list[str]:
        problems = []
        for flag, port, least in (
            ("--grpc-port", self.grpc_port, -1 if self.grpc_socket else 0),
            ("--grpc-health-port", self.grpc_health_port, 0),
            ("--metrics-port", self.metrics_port, 0),
            ("--debug-port", self.debug_port, -1),
            *(("--endpoint-target-ports", port, 1) for port in self.endpoint_target_ports),
        ):
            if not least <= port <= LARGEST_PORT:
                problems.append(f"{flag}: {port} is no port; give {least} to {LARGEST_PORT}")
        if len(self.grpc_socket.encode()) > LONGEST_SOCKET_PATH:
            problems.append(f"--grpc-socket: at most {LONGEST_SOCKET_PATH} bytes of path")
        for name in self.client_headers:
            if name not in CLIENT_HEADERS:
                known = ", ".join(CLIENT_HEADERS)
                problems.append(f"--client-headers: {name[:40]!r} is none of {known}")
        if len(self.endpoint_target_ports) > MOST_TARGET_PORTS:
            problems.append(f"--endpoint-target-ports: at most {MOST_TARGET_PORTS} ports")
        if self.max_body_bytes > self.max_held_bytes:
            problems.append("--max-body-bytes may not exceed --max-held-bytes")
        for flag, value in (
            ("--max-body-bytes", self.max_body_bytes),
            ("--max-header-bytes", self.max_header_bytes),
            ("--max-json-depth", self.max_json_depth),
            ("--refresh-metrics-interval", self.refresh_metrics_interval),
        ):
            if value <= 0:
                problems.append(f"{flag}: must be more than 0")
        return problems
