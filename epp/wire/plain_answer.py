"""The answer to a client that does not speak gRPC: an HTTP status and a line of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epp.wire.headers import encoded

if TYPE_CHECKING:
    from epp.wire.grpc_heads import Refusal
    from epp.wire.http2 import Connection
    from epp.wire.streams import Stream


class PlainAnswer:
    """A short text for who does not speak gRPC, ended when the request has ended."""

    __slots__ = ("_connection", "_since", "_stream")

    def __init__(self, connection: Connection, stream: Stream, refusal: Refusal) -> None:
        self._connection = connection
        self._stream = stream
        self._since = connection.now
        connection.counters.calls_failed += 1
        fields = ((b":status", b"%d" % refusal.http), (b"content-type", b"text/plain"))
        connection.respond(stream, encoded(fields))
        connection.send(stream, b"", refusal.message.encode())

    def data(self, buffer: bytes, start: int, end: int) -> None:
        pass

    @property
    def growing(self) -> bool:
        return False

    def half_closed(self) -> None:
        self._connection.finish(self._stream, b"")

    def reset(self, by_peer: bool) -> None:
        pass

    def lost(self) -> None:
        pass

    def resumed(self) -> None:
        pass

    def tick(self, now: float) -> None:
        limit = self._connection.limits.message_timeout
        if self._stream.local_open and 0 < limit <= now - self._since:
            self._connection.counters.message_timeouts += 1
            self._connection.finish(self._stream, b"")

    def stopping(self) -> None:
        pass
