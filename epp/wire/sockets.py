"""The socket shell of our own wire: accepts connections, moves bytes, keeps the timers.

One `Server` per process; it owns its sockets, one `Session` per connection and one timer for all
of them. Everything a byte means is decided in `http2` and `grpc`. Runs on asyncio and on uvloop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from epp.wire.budget import Backlog
from epp.wire.grpc import Router
from epp.wire.http2 import Connection
from epp.wire.limits import Counters, Limits
from epp.wire.listeners import NO_PORT, Listening, SocketFile, tcp_listener, unix_listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from epp.wire.budget import ByteBudget
    from epp.wire.calls import Methods

__all__ = ["Listening", "Server", "Session"]

Contexts: TypeAlias = "Callable[[], ssl.SSLContext]"

_SWEEP_SECONDS: Final = 0.25
_LINGER_SECONDS: Final = 2.0
_TLS_GOODBYE_SECONDS: Final = 0.5
_SOCKET_BUFFER: Final = 1 << 20
_ACCEPT_RETRY_SECONDS: Final = 0.1


class Session(asyncio.Protocol):
    """Moves bytes between one transport and one `http2.Connection`."""

    def __init__(self, server: Server, peer: str) -> None:
        self._server = server
        self._loop = server.loop
        self._peer = peer
        self._transport: asyncio.Transport | None = None
        self._stalled_since: float | None = None
        self._closing_since: float | None = None
        self.connection: Connection = server.connect(self._wake, peer)

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio.Transport, they only behave like one.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=_SOCKET_BUFFER)
        self._server.opened(self)
        self.flush()

    def data_received(self, data: bytes) -> None:
        self.connection.receive(data, self._loop.time())
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.lost()
        self._transport = None
        self._server.closed(self)

    def pause_writing(self) -> None:
        """The peer does not read: queue no more for it, and take no more work from it."""
        self._stalled_since = self._loop.time()
        self.connection.pause()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled_since = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self.connection.resume()

    # ---- what the server asks

    def flush(self) -> None:
        """Write everything there is, in one piece."""
        transport = self._transport
        if transport is None or self._closing_since is not None:
            return
        if data := self.connection.take():
            transport.write(data)
        if self.connection.closing and self._closing_since is None:
            self._closing_since = self._loop.time()
            transport.close()

    def tick(self, now: float) -> None:
        self.connection.tick(now)
        self.flush()
        if self._overdue(self._stalled_since, now, self.connection.limits.stall_timeout):
            self.connection.counters.stalls += 1
            self.abort()
        elif self._overdue(self._closing_since, now, _LINGER_SECONDS):
            self.abort()

    def drain(self) -> None:
        self.connection.drain()
        self.flush()

    def stop(self) -> None:
        self.connection.stop()
        self.flush()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        self._loop.call_soon(self.flush)

    @staticmethod
    def _overdue(since: float | None, now: float, limit: float) -> bool:
        return since is not None and 0 < limit <= now - since


class Server:
    """Serves gRPC methods on sockets.

    `tls` is asked for the context of each new connection, so a reloaded certificate is used from
    the next connection on and none is dropped; None serves in the clear, and Unix sockets always
    are. `on_fault` hears the exceptions of handlers and of `tls`. Near the end of `budget` clients
    are asked for less.
    """

    def __init__(
        self,
        methods: Methods,
        on_fault: Callable[[Exception], None],
        *,
        limits: Limits | None = None,
        tls: Contexts | None = None,
        budget: ByteBudget | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = limits or Limits()
        self._router = Router(methods, on_fault)
        self._on_fault = on_fault
        self._tls = tls
        self._backlog = Backlog(budget)
        self._past = Counters()
        self._sessions: set[Session] = set()
        self._listeners: list[socket.socket] = []
        self._files: list[SocketFile] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._greeting: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    async def listen(self, how: Listening) -> int:
        """Listen; returns the port, NO_PORT for none. Raises OSError when it cannot be had."""
        if how.socket is not None:
            self._serve(unix_listener(how.socket, how.backlog), None)
            self._files.append(SocketFile(how.socket))
        if how.port == NO_PORT:
            return NO_PORT
        listener = tcp_listener(how)
        self._serve(listener, self._tls)
        port: int = listener.getsockname()[1]
        return port

    @property
    def counters(self) -> Counters:
        """Counts of all connections, past and open."""
        total = Counters()
        total.add(self._past)
        for session in self._sessions:
            total.add(session.connection.counters)
        return total

    @property
    def open_connections(self) -> int:
        return len(self._sessions)

    @property
    def open_streams(self) -> int:
        return sum(len(session.connection.streams) for session in self._sessions)

    async def drain(self, deadline: float) -> None:
        """Take no new connections or streams, wait for the open ones up to `deadline` (loop time).

        At the deadline each open call hears `stopping`, then its connection closes.
        """
        await self._stop_accepting()
        for session in list(self._sessions):
            session.drain()
        await self._wait_empty(deadline - self.loop.time())
        await self.close()

    def let_go(self) -> None:
        """Ask every peer to connect anew: connections end with the calls they have open."""
        for session in list(self._sessions):
            session.drain()

    async def close(self) -> None:
        """Stop at once: open calls hear `stopping`, connections close."""
        await self._stop_accepting()
        for session in list(self._sessions):
            session.stop()
        await self._wait_empty(_LINGER_SECONDS)
        for session in list(self._sessions):
            session.abort()
        await self._wait_empty(_LINGER_SECONDS)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    # ---- sessions

    def connect(self, wake: Callable[[], None], peer: str) -> Connection:
        return Connection(
            self._router.accept,
            now=self.loop.time(),
            limits=self.limits,
            wake=wake,
            peer=peer,
            backlog=self._backlog,
        )

    def opened(self, session: Session) -> None:
        self._sessions.add(session)
        self._empty.clear()

    def closed(self, session: Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
            self._past.add(session.connection.counters)
        if not self._sessions:
            self._empty.set()

    async def _wait_empty(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._empty.wait()

    # ---- accepting

    def _serve(self, listener: socket.socket, tls: Contexts | None) -> None:
        listener.setblocking(False)
        self._listeners.append(listener)
        self._accepting.append(self.loop.create_task(self._accept_all(listener, tls)))
        if self._sweep is None:
            self._sweep = self.loop.call_later(_SWEEP_SECONDS, self._tick)

    async def _accept_all(self, listener: socket.socket, tls: Contexts | None) -> None:
        while True:
            try:
                accepted, address = await self.loop.sock_accept(listener)
            except OSError:
                # Out of descriptors, or the client left while it waited: try again a bit later.
                await asyncio.sleep(_ACCEPT_RETRY_SECONDS)
                continue
            if len(self._sessions) + len(self._greeting) >= self.limits.max_connections:
                self._past.connections_refused += 1
                accepted.close()
                continue
            task = self.loop.create_task(self._greet(accepted, address, tls))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, accepted: socket.socket, address: object, tls: Contexts | None) -> None:
        """Set a connection up, with the TLS context of this moment."""
        peer = _peer_name(accepted, address)
        try:
            context = tls() if tls is not None else None
            if accepted.family != socket.AF_UNIX:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except Exception as error:  # noqa: BLE001 - no certificate now is no reason to stop serving
            self._past.handshakes_failed += 1
            self._on_fault(error)
            accepted.close()
            return
        try:
            # From here on the loop owns the socket, and closes it when the handshake fails.
            await self.loop.connect_accepted_socket(
                lambda: Session(self, peer),
                accepted,
                ssl=context,
                ssl_handshake_timeout=self._handshake_timeout(context),
                ssl_shutdown_timeout=None if context is None else _TLS_GOODBYE_SECONDS,
            )
        except OSError:
            self._past.handshakes_failed += 1

    def _handshake_timeout(self, context: ssl.SSLContext | None) -> float | None:
        return None if context is None else self.limits.handshake_timeout or None

    async def _stop_accepting(self) -> None:
        tasks = [*self._accepting, *self._greeting]
        self._accepting = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for file in self._files:
            file.remove()
        self._files = []
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def _tick(self) -> None:
        self._sweep = self.loop.call_later(_SWEEP_SECONDS, self._tick)
        now = self.loop.time()
        for session in list(self._sessions):
            session.tick(now)


def _peer_name(accepted: socket.socket, address: object) -> str:
    """The peer as gRPC names it."""
    if accepted.family == socket.AF_UNIX or not isinstance(address, tuple):
        return "unix:"
    host, port = address[0], address[1]
    if accepted.family == socket.AF_INET6:
        return f"ipv6:[{host}]:{port}"
    return f"ipv4:{host}:{port}"
