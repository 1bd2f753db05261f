"""gRPC over one HTTP/2 connection, server side: heads become calls, data becomes messages.

`Router.accept` is what a `http2.Connection` asks for each request; it checks the head, finds the
method and opens a `ServerCall`, which cuts DATA into messages, speaks the method's `Call` and turns
its answers into frames. What a method sees is in `calls`; what heads and trailers say is in
`grpc_heads`.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from epp.wire.calls import CallError, Cancellation, Status
from epp.wire.grpc_heads import ACCEPTED, ANSWER, OK, Reading, trailers
from epp.wire.headers import encoded
from epp.wire.plain_answer import PlainAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from epp.wire.calls import Handler, Metadata, Methods
    from epp.wire.grpc_heads import Refusal
    from epp.wire.headers import Fields, Head
    from epp.wire.http2 import Connection
    from epp.wire.streams import Receiver, Stream

_PREFIX = Struct(">BI")
_PREFIX_SIZE: Final = 5


class Router:
    """Finds the method of each request and opens its call.

    `on_fault` hears every exception of a handler that is not a CallError: the call ends with
    UNKNOWN, its neighbours go on.
    """

    def __init__(self, methods: Methods, on_fault: Callable[[Exception], None]) -> None:
        self._methods = dict(methods)
        self._on_fault = on_fault

    def accept(self, connection: Connection, stream: Stream, head: Head) -> Receiver:
        """What `http2.Connection` calls for a new request."""
        reading = Reading.of(head)
        refusal = reading.refusal
        if refusal is not None and refusal.http != 200:
            return PlainAnswer(connection, stream, refusal)
        call = ServerCall(connection, stream, reading, self._on_fault)
        stream.receiver = call
        if refusal is not None:
            call.refuse(refusal)
            return call
        method = self._methods.get(reading.path)
        if method is None:
            call.end(Status.UNIMPLEMENTED, f"unknown method {reading.path}")
            return call
        call.guard(lambda: call.begin(method.open(call)))
        return call


class ServerCall:
    """One call: a `calls.Call` for its handler and a `streams.Receiver` for its stream."""

    __slots__ = (
        "_connection",
        "_cut_prefix",
        "_handler",
        "_message_size",
        "_missing",
        "_on_fault",
        "_over",
        "_pieces",
        "_since",
        "_stream",
        "_untold",
        "deadline",
        "metadata",
    )

    def __init__(
        self,
        connection: Connection,
        stream: Stream,
        reading: Reading,
        on_fault: Callable[[Exception], None],
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._on_fault = on_fault
        self._handler: Handler | None = None
        self._over = False
        self._untold: Cancellation | None = None
        self._cut_prefix = b""
        self._pieces: list[bytes] = []
        self._message_size = 0
        self._missing = 0
        self._since = 0.0
        self.metadata = reading.metadata
        timeout = reading.timeout
        self.deadline = None if timeout is None else connection.now + timeout

    def begin(self, handler: Handler) -> None:
        """Take the handler that was opened; it hears of an end that came while it was opened."""
        self._handler = handler
        if self._untold is not None:
            self._tell(self._untold)

    def refuse(self, refusal: Refusal) -> None:
        """Answer a head that opens no call."""
        self._finish(refusal.status, refusal.message, (), refusal.fields)

    # ---- calls.Call

    @property
    def peer(self) -> str:
        return self._connection.peer

    @property
    def writable(self) -> bool:
        return not self._over and not self._stream.full

    def send(self, message: bytes) -> None:
        if self._over:
            return
        connection, stream = self._connection, self._stream
        if not stream.answered:
            connection.respond(stream, ANSWER)
        connection.send(stream, _PREFIX.pack(0, len(message)), message)

    def end(self, status: int = 0, message: str = "", trailing: Metadata = ()) -> None:
        self._finish(status, message, trailing, ())

    def _finish(self, status: int, message: str, trailing: Metadata, extra: Fields) -> None:
        if self._over:
            return
        block = OK if not (status or message or trailing) else trailers(status, message, trailing)
        self._over = True
        self._drop_partial()
        counters = self._connection.counters
        if status:
            counters.calls_failed += 1
        else:
            counters.calls_ok += 1
        if not self._stream.answered:
            block = ANSWER + block
        self._connection.finish(self._stream, block + encoded(extra) if extra else block)

    # ---- streams.Receiver

    def data(self, buffer: bytes, start: int, end: int) -> None:
        if self._over:
            return
        if self._cut_prefix:
            buffer = self._cut_prefix + buffer[start:end]
            start, end = 0, len(buffer)
            self._cut_prefix = b""
        if self._pieces:
            start = self._continue(buffer, start, end)
        while end - start >= _PREFIX_SIZE and not self._over:
            flag, size = _PREFIX.unpack_from(buffer, start)
            if flag or size > self._connection.limits.max_message_size:
                self._refuse_message(flag, size)
                return
            start += _PREFIX_SIZE
            if start + size > end:
                self._keep(buffer[start:end], size)
                return
            self._deliver(buffer[start : start + size])
            start += size
        if start < end and not self._over:
            self._cut_prefix = buffer[start:end]
            self._since = self._connection.now

    @property
    def growing(self) -> bool:
        """A request is collected until it is answered; in buffered mode, where its head is answered
        before, it is one large message. What streams past is neither."""
        if self._over:
            return False
        large = self._connection.limits.stream_window >> 1
        return not self._stream.answered or self._message_size > large

    def half_closed(self) -> None:
        if self._over:
            return
        if self._pieces or self._cut_prefix:
            self._abort(Status.INTERNAL, "the request ended inside a message", Cancellation.RESET)
        elif self._handler is not None:
            self.guard(self._handler.half_closed)

    def reset(self, by_peer: bool) -> None:
        self._cancel(Cancellation.RESET if by_peer else Cancellation.LIMIT)

    def lost(self) -> None:
        self._cancel(Cancellation.CONNECTION_LOST)

    def resumed(self) -> None:
        if not self._over and self._handler is not None:
            self.guard(self._handler.resumed)

    def tick(self, now: float) -> None:
        if self._over:
            return
        if self.deadline is not None and now >= self.deadline:
            self._connection.counters.deadlines += 1
            self._abort(Status.DEADLINE_EXCEEDED, "deadline exceeded", Cancellation.DEADLINE)
        elif self._pieces or self._cut_prefix:
            self._check_progress(now)

    def stopping(self) -> None:
        if self._over:
            return
        if self._handler is not None:
            self.guard(self._handler.stopping)
        self._abort(Status.UNAVAILABLE, "the server is stopping", Cancellation.STOPPED)

    # ---- messages

    def _deliver(self, message: bytes) -> None:
        self._connection.counters.messages_in += 1
        handler = self._handler
        if handler is None:
            return
        try:
            handler.message(message)
        except CallError as error:
            self.end(error.status, error.message)
        except Exception as error:  # noqa: BLE001 - one call's fault is not its neighbours'
            self._fault(error)

    def _keep(self, piece: bytes, size: int) -> None:
        """Begin to assemble a message of `size` bytes."""
        self._pieces = [piece]
        self._message_size = size
        self._missing = size - len(piece)
        self._since = self._connection.now
        self._assemble(len(piece))

    def _continue(self, buffer: bytes, start: int, end: int) -> int:
        """Take what belongs to the message begun; returns where the next one starts."""
        stop = min(end, start + self._missing)
        self._pieces.append(buffer[start:stop])
        self._missing -= stop - start
        if self._missing:
            self._assemble(stop - start)
            return end
        self._connection.assemble(stop - start)
        message = b"".join(self._pieces)
        self._drop_partial()
        self._deliver(message)
        return stop

    def _assemble(self, size: int) -> None:
        connection = self._connection
        connection.assemble(size)
        if connection.assembling > connection.limits.max_assembling:
            connection.counters.messages_too_large += 1
            self._abort(
                Status.RESOURCE_EXHAUSTED, "too many unfinished messages", Cancellation.LIMIT
            )

    def _drop_partial(self) -> None:
        if self._pieces:
            self._connection.assemble(-sum(map(len, self._pieces)))
            self._pieces = []
            self._message_size = 0
        self._cut_prefix = b""

    def _refuse_message(self, flag: int, size: int) -> None:
        most = self._connection.limits.max_message_size
        if flag == 1:
            self._abort(
                Status.UNIMPLEMENTED,
                "compressed messages are not supported",
                Cancellation.LIMIT,
                ACCEPTED,
            )
        elif flag:
            self._abort(Status.INTERNAL, "unknown message flag", Cancellation.LIMIT)
        else:
            self._connection.counters.messages_too_large += 1
            self._abort(
                Status.RESOURCE_EXHAUSTED,
                f"message of {size} bytes, at most {most}",
                Cancellation.LIMIT,
            )

    def _check_progress(self, now: float) -> None:
        limits = self._connection.limits
        allowed = limits.message_timeout + self._message_size / limits.slowest_rate
        if limits.message_timeout > 0 and now - self._since >= allowed:
            self._connection.counters.message_timeouts += 1
            self._abort(Status.CANCELLED, "a message was begun and not ended", Cancellation.LIMIT)

    # ---- the end

    def guard(self, step: Callable[[], None]) -> None:
        """Run a step of the handler's; what it raises ends this call and no other."""
        try:
            step()
        except CallError as error:
            self.end(error.status, error.message)
        except Exception as error:  # noqa: BLE001 - one call's fault is not its neighbours'
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        self._connection.counters.handler_faults += 1
        self._on_fault(error)
        self._abort(Status.UNKNOWN, "internal error", Cancellation.FAULT)

    def _abort(
        self, status: Status, message: str, reason: Cancellation, fields: Fields = ()
    ) -> None:
        """End the call from here, and tell the handler."""
        if not self._over:
            self._finish(status, message, (), fields)
            self._tell(reason)

    def _cancel(self, reason: Cancellation) -> None:
        if not self._over:
            self._over = True
            self._drop_partial()
            self._connection.counters.calls_failed += 1
            self._tell(reason)

    def _tell(self, reason: Cancellation) -> None:
        handler, self._handler = self._handler, None
        if handler is None:
            self._untold = reason
            return
        try:
            handler.cancelled(reason)
        except Exception as error:  # noqa: BLE001 - the call is over, its neighbours go on
            self._connection.counters.handler_faults += 1
            self._on_fault(error)
