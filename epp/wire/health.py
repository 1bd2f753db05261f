"""grpc.health.v1 for probes and gateways, on any wire and any port.

Liveness is true while the process answers, drain included; readiness is `Readiness`. A picker that
is not ready still answers ext_proc.
"""

from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from epp.wire.calls import Call, CallError, Cancellation, Methods, Status, UnaryMethod
from epp.wire.gen.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListResponse,
)
from epp.wire.readiness import Readiness

SERVING: Final = HealthCheckResponse.SERVING
NOT_SERVING: Final = HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN: Final = HealthCheckResponse.SERVICE_UNKNOWN

ALIVE: Final = ("liveness", "inference-extension")
READY: Final = ("readiness", "", "envoy.service.ext_proc.v3.ExternalProcessor")


class Health:
    """The three methods of the health service over one `Readiness`."""

    def __init__(self, readiness: Readiness) -> None:
        self.readiness = readiness

    @property
    def methods(self) -> Methods:
        """To be registered with a server, beside others or alone."""
        return {
            "/grpc.health.v1.Health/Check": UnaryMethod(self._check),
            "/grpc.health.v1.Health/List": UnaryMethod(self._list),
            "/grpc.health.v1.Health/Watch": _WatchMethod(self),
        }

    def status(self, service: str) -> HealthCheckResponse.ServingStatus:
        """The status of a service by name; SERVICE_UNKNOWN for a name nobody has here."""
        if service in ALIVE:
            return SERVING
        if service in READY:
            return SERVING if self.readiness.ready else NOT_SERVING
        return SERVICE_UNKNOWN

    def _check(self, request: bytes, call: Call) -> bytes:
        service = _service_in(request)
        status = self.status(service)
        if status == SERVICE_UNKNOWN:
            raise CallError(Status.NOT_FOUND, f"no service named {service!r} here")
        return HealthCheckResponse(status=status).SerializeToString()

    def _list(self, request: bytes, call: Call) -> bytes:
        reply = HealthListResponse()
        for service in (*ALIVE, *READY):
            reply.statuses[service].status = self.status(service)
        return reply.SerializeToString()


class _WatchMethod:
    def __init__(self, health: Health) -> None:
        self._health = health

    def open(self, call: Call) -> "_Watch":
        return _Watch(self._health, call)


class _Watch:
    """Sends the status of one service, and again whenever it changes, until somebody leaves.

    A drain ends it: a watcher must not hold up the process it watches.
    """

    def __init__(self, health: Health, call: Call) -> None:
        self._health = health
        self._call = call
        self._service: str | None = None
        self._sent: HealthCheckResponse.ServingStatus | None = None
        self._leave: Callable[[], None] = lambda: None

    def message(self, data: bytes) -> None:
        if self._service is not None:
            raise CallError(Status.INVALID_ARGUMENT, "Watch takes one request message, got more")
        self._service = _service_in(data)
        self._leave = self._health.readiness.watch(self._look)
        self._look()

    def half_closed(self) -> None:
        if self._service is None:
            raise CallError(Status.INVALID_ARGUMENT, "Watch takes one request message, got none")

    def cancelled(self, reason: Cancellation) -> None:
        self._leave()

    def resumed(self) -> None:
        self._look()

    def stopping(self) -> None:
        self._leave()
        self._call.end(Status.UNAVAILABLE, "the server is stopping")

    def _look(self) -> None:
        """Send the status if it is news; what changes while nobody reads is sent when they do."""
        assert self._service is not None
        status = self._health.status(self._service)
        if status != self._sent and self._call.writable:
            self._sent = status
            self._call.send(HealthCheckResponse(status=status).SerializeToString())
        if self._health.readiness.draining:
            self.stopping()


def _service_in(request: bytes) -> str:
    try:
        return HealthCheckRequest.FromString(request).service
    except DecodeError as error:
        raise CallError(Status.INVALID_ARGUMENT, "not a HealthCheckRequest") from error
