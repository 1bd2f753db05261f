"""The gRPC ports, ext_proc and health, on the wire and with the certificates that are asked for."""

import asyncio
import datetime as dt
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from epp.config.options import RunOptions
from epp.domain.path import RequestPath
from epp.domain.request import Head
from epp.errors import CannotListen, Refused
from epp.wire.asking import ExchangeLimits
from epp.wire.budget import ByteBudget
from epp.wire.calls import Methods
from epp.wire.health import Health
from epp.wire.limits import Limits
from epp.wire.readiness import Readiness
from epp.wire.session import PROCESS, Process
from epp.wire.sockets import Listening, Server
from epp.wire.tls import (
    KeyPairFiles,
    KeyPairs,
    SelfSigned,
    TlsContexts,
    grpcio_credentials,
    self_signed,
    tls_settings,
)
from epp.wire.tuning import read_limits

LEAVING_SECONDS: Final = 1.0
"""How long before a drain's end responses are left, each right after a piece of it."""


class WireServer(Protocol):
    """What both wires have in common."""

    @property
    def open_streams(self) -> int: ...

    async def listen(self, how: Listening) -> int: ...

    def let_go(self) -> None: ...

    async def drain(self, deadline: float) -> None: ...

    async def close(self) -> None: ...


@dataclass(slots=True, frozen=True)
class GrpcPorts:
    ext_proc: int
    health: int


class Serving:
    """Both gRPC ports from `start` to `drain`. Must be built on the running loop."""

    def __init__(
        self,
        options: RunOptions,
        path: RequestPath,
        readiness: Readiness,
        budget: ByteBudget,
        log: FilteringBoundLogger,
        *,
        told: Callable[[Refused, Head | None], None] | None = None,
        replied: Callable[[float], None] | None = None,
    ) -> None:
        """`told` hears of the wire's own refusals, `replied` how long replies took to write."""
        self._options = options
        self._log = log
        self._budget = budget
        limits = ExchangeLimits(options.max_body_bytes, options.max_header_bytes)
        self.process = Process(
            path, budget=budget, limits=limits, told=told, replied=replied, log=log
        )
        health = Health(readiness).methods
        # Gateways check the ext_proc port itself, whether or not they were told to.
        self.ext_proc: WireServer = self._server({PROCESS: self.process, **health}, secure=True)
        self.health: WireServer = self._server(health, secure=False)

    async def start(self) -> GrpcPorts:
        """Listen on both. Raises CannotListen; nothing stays open then."""
        options = self._options
        try:
            ext_proc = await self._listen_ext_proc()
            health = await self._listen(
                self.health,
                "--grpc-health-port",
                listening(options.grpc_host, options.grpc_health_port),
            )
        except BaseException:
            await self.close()
            raise
        return GrpcPorts(ext_proc, health)

    def let_go(self) -> None:
        """Ask gateways to connect anew, wherever that may lead them; streams finish here."""
        self.ext_proc.let_go()

    async def drain(self, seconds: float) -> None:
        """Finish open streams for up to `seconds`, health last: probes see the drain."""
        loop = asyncio.get_running_loop()
        leaving = loop.call_later(max(seconds - LEAVING_SECONDS, 0.0), self.process.wind_down)
        await self.ext_proc.drain(loop.time() + seconds)
        leaving.cancel()
        await self.health.close()

    async def _listen_ext_proc(self) -> int:
        options = self._options
        how = replace(
            listening(options.grpc_host, options.grpc_port), reuse_port=options.grpc_reuse_port
        )
        if options.grpc_socket:
            how = replace(how, socket=Path(options.grpc_socket))
        return await self._listen(self.ext_proc, "--grpc-port", how)

    async def _listen(self, server: WireServer, flag: str, how: Listening) -> int:
        try:
            return await server.listen(how)
        except OSError as error:
            if error.filename:
                raise CannotListen("--grpc-socket", error.filename, error) from error
            raise CannotListen(flag, how.port, error) from error

    async def close(self) -> None:
        """At once; also what a drain is cut short with."""
        await self.ext_proc.close()
        await self.health.close()

    def _server(self, methods: Methods, *, secure: bool) -> WireServer:
        pairs = self._pairs() if secure and self._options.secure_serving else None
        limits = limits_of(self._options)
        settings = tls_settings(self._options.tls_min_version, self._options.tls_cipher_suites)
        if self._options.wire == "grpcio":
            # Here, so that a start on our own wire does not load grpc.
            from epp.wire.grpcio_shell import GrpcioServer

            credentials = grpcio_credentials(pairs, settings) if pairs else None
            return GrpcioServer(methods, self._on_fault, credentials=credentials, limits=limits)
        contexts = TlsContexts(pairs, settings) if pairs else None
        return Server(
            methods,
            self._on_fault,
            limits=limits,
            tls=contexts,
            budget=self._budget if secure else None,
        )

    def _pairs(self) -> KeyPairs:
        if self._options.cert_path:
            return KeyPairFiles(Path(self._options.cert_path), self._log)
        return SelfSigned(self_signed(dt.datetime.now(dt.UTC)))

    def _on_fault(self, error: Exception) -> None:
        # Not what it says: that may quote a body.
        trace = "".join(traceback.format_tb(error.__traceback__))
        self._log.error("fault in a gRPC method", error=type(error).__name__, trace=trace)


def limits_of(options: RunOptions) -> Limits:
    """The wire's limits: those given, and those that follow from the largest body and from all.

    The byte budget says 503 to what one connection may not cut before: the last message of a body
    is held twice for a moment, as a message and as a body. Raises ConfigError.
    """
    largest = options.max_body_bytes + (1 << 20)
    following = Limits(max_message_size=largest, max_assembling=options.max_held_bytes + largest)
    return read_limits(options.wire_limits, options.wire, following)


def listening(host: str, port: int) -> Listening:
    """Where to listen; an empty host is every address this machine has."""
    return Listening(host=host or every_address(), port=port)


def every_address() -> str:
    """`::` where one socket can serve IPv6 and IPv4, else `0.0.0.0`."""
    if not socket.has_dualstack_ipv6():
        return "0.0.0.0"
    try:
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True).close()
    except OSError:
        return "0.0.0.0"
    return "::"
