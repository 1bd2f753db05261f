"""The same methods carried by grpc.aio: slower than our own wire, and an independent judge of it.

One coroutine per call writes; a task beside it reads. Nothing here knows what a message means.
"""

import asyncio
import contextlib
import errno
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc

from epp.wire.calls import CallError, Cancellation, Handler, Metadata, Method, Methods, Status
from epp.wire.limits import Limits
from epp.wire.listeners import NO_PORT, SOCKET_MODE, Listening, SocketFile, clear_the_way

_HIGH_WATER: Final = 256 << 10
_LINGER_SECONDS: Final = 1.0
_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # missing from the stubs
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

Context: TypeAlias = Any
"""A `grpc.aio.ServicerContext`; the published stubs leave out half of what it can do."""


class GrpcioServer:
    """Serves gRPC methods through grpc.aio, as `sockets.Server` does through our own wire.

    `credentials` None serves in the clear, and Unix sockets always are. `on_fault` hears the
    exceptions of handlers. Of `limits` it has those of `tuning.GRPCIO` and the message size.
    """

    def __init__(
        self,
        methods: Methods,
        on_fault: Callable[[Exception], None],
        *,
        credentials: grpc.ServerCredentials | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._methods = methods
        self._on_fault = on_fault
        self._credentials = credentials
        self._options = _options(limits or Limits())
        self._server: Any = None
        self._file: SocketFile | None = None
        self._calls: set[_Call] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def open_streams(self) -> int:
        """Calls that have not ended."""
        return len(self._calls)

    async def listen(self, how: Listening) -> int:
        """Listen; returns the port, NO_PORT for none. Raises OSError when it cannot be had."""
        reuse = ("grpc.so_reuseport", int(how.reuse_port))
        self._server = grpc.aio.server(
            handlers=(_Routes(self._methods, self._carry),), options=(*self._options, reuse)
        )
        if how.socket is not None:
            self._bind_socket(how.socket)
        port = NO_PORT if how.port == NO_PORT else self._bind(_address(how), self._credentials)
        await self._server.start()
        return port

    async def drain(self, deadline: float) -> None:
        """Take no new calls, wait for the open ones up to `deadline` (loop time).

        At the deadline each open call hears `stopping`, then it is cut.
        """
        if self._server is None:
            return
        if self._file is not None:
            self._file.remove()
            self._file = None
        seconds = max(0.0, deadline - asyncio.get_running_loop().time())
        stopped = asyncio.ensure_future(self._server.stop(seconds + _LINGER_SECONDS))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        for call in tuple(self._calls):
            call.stop()
        await stopped
        self._server = None

    def let_go(self) -> None:
        """Nothing: grpc ends connections only together with the server."""

    async def close(self) -> None:
        """Stop at once: open calls hear `stopping`, then they are cut."""
        await self.drain(asyncio.get_running_loop().time())

    def _bind_socket(self, path: Path) -> None:
        # grpc takes any socket away, served or not.
        clear_the_way(path)
        try:
            self._bind(f"unix:{path}", None)
        except OSError as error:
            raise OSError(errno.EACCES, str(error), str(path)) from error
        path.chmod(SOCKET_MODE)
        self._file = SocketFile(path)

    def _bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}") from error

    async def _carry(self, method: Method, context: Context) -> None:
        call = _Call(context, self._on_fault)
        self._calls.add(call)
        self._idle.clear()
        try:
            await call.carry(method)
        finally:
            self._calls.discard(call)
            if not self._calls:
                self._idle.set()


def _options(limits: Limits) -> tuple[tuple[str, int], ...]:
    """Channel arguments; a time of 0 is never, as grpc has it where nothing is said."""
    times = {
        "grpc.keepalive_time_ms": limits.keepalive_interval,
        "grpc.keepalive_timeout_ms": limits.keepalive_timeout,
        "grpc.max_connection_idle_ms": limits.idle_timeout,
    }
    return (
        ("grpc.max_receive_message_length", limits.max_message_size),
        ("grpc.max_send_message_length", limits.max_message_size),
        ("grpc.max_concurrent_streams", limits.max_streams),
        *((name, int(1_000 * seconds)) for name, seconds in times.items() if seconds),
    )


def _address(how: Listening) -> str:
    host = f"[{how.host}]" if ":" in how.host else how.host or "[::]"
    return f"{host}:{how.port}"


class _Routes(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs alone
    """Finds the method of a path; bytes go in and out as they are."""

    def __init__(
        self, methods: Methods, carry: Callable[[Method, Context], Awaitable[None]]
    ) -> None:
        self._methods = methods
        self._carry = carry

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = self._methods.get(handler_call_details.method)
        if method is None:
            return None

        async def behaviour(_: AsyncIterator[bytes], context: Context) -> None:
            await self._carry(method, context)

        return grpc.stream_stream_rpc_method_handler(behaviour)


class _Call:
    """A `Call` over a grpc.aio context: what is sent waits in a queue for the writing coroutine."""

    def __init__(self, context: Context, on_fault: Callable[[Exception], None]) -> None:
        self._context = context
        self._on_fault = on_fault
        self._handler: Handler | None = None
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._stalled = False
        self._more = asyncio.Event()
        self._end: tuple[int, str, Metadata] | None = None
        self._stopped = False

    # -- Call -------------------------------------------------------------------------------------

    @property
    def metadata(self) -> Metadata:
        pairs = self._context.invocation_metadata() or ()
        return tuple((key, value) for key, value in pairs if not key.startswith("grpc-"))

    @property
    def deadline(self) -> float | None:
        left = self._context.time_remaining()
        return None if left is None else asyncio.get_running_loop().time() + left

    @property
    def peer(self) -> str:
        return str(self._context.peer())

    @property
    def writable(self) -> bool:
        return not self._stalled

    def send(self, message: bytes) -> None:
        if self._end is None:
            self._queue.append(message)
            self._queued += len(message)
            self._stalled = self._stalled or self._queued > _HIGH_WATER
            self._more.set()

    def end(self, status: int = 0, message: str = "", trailing: Metadata = ()) -> None:
        if self._end is None:
            self._end = (status, message, trailing)
            self._more.set()

    # -- the shell's side -------------------------------------------------------------------------

    def stop(self) -> None:
        """The drain's deadline: what the handler leaves open ends as unavailable."""
        self._stopped = True
        if self._handler is not None and self._end is None:
            self._hear(self._handler.stopping)
        self.end(Status.UNAVAILABLE, "the server is stopping")

    async def carry(self, method: Method) -> None:
        """The whole call: read beside, write here, then say how it ended."""
        self._hear(self._open, method)
        reader = asyncio.ensure_future(self._read()) if self._end is None else None
        try:
            await self._write()
        except asyncio.CancelledError:
            self._cancelled()
            raise
        finally:
            if reader is not None:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
        self._say_how_it_ended()

    def _open(self, method: Method) -> None:
        self._handler = method.open(self)

    async def _read(self) -> None:
        handler = self._handler
        assert handler is not None
        while True:
            message = await self._context.read()
            if self._end is not None:
                return
            if message is _EOF:
                self._hear(handler.half_closed)
                return
            self._hear(handler.message, message)

    async def _write(self) -> None:
        while True:
            while self._queue:
                message = self._queue.popleft()
                await self._context.write(message)
                self._written(len(message))
            if self._end is not None:
                return
            self._more.clear()
            await self._more.wait()

    def _written(self, size: int) -> None:
        self._queued -= size
        if self._stalled and self._queued <= _HIGH_WATER // 2:
            self._stalled = False
            if self._end is None and self._handler is not None:
                self._hear(self._handler.resumed)

    def _hear(self, hear: Callable[..., None], *what: object) -> None:
        """Let the handler hear of something; what it raises ends its own call and no other."""
        try:
            hear(*what)
        except CallError as error:
            self.end(error.status, error.message)
        except Exception as error:  # noqa: BLE001 - a bug in one handler stays in its call
            self._on_fault(error)
            self.end(Status.INTERNAL, "internal error")

    def _cancelled(self) -> None:
        """Cut before its end: by the client, by its deadline, or by the server that stops."""
        if self._end is None and self._handler is not None:
            left = self._context.time_remaining()
            reason = Cancellation.STOPPED if self._stopped else Cancellation.RESET
            if left is not None and left <= 0:
                reason = Cancellation.DEADLINE
            self._hear(self._handler.cancelled, reason)
            self.end(Status.CANCELLED)

    def _say_how_it_ended(self) -> None:
        assert self._end is not None
        status, message, trailing = self._end
        self._context.set_code(_CODES[status])
        if message:
            self._context.set_details(message)
        if trailing:
            self._context.set_trailing_metadata(tuple(trailing))
