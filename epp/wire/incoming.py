"""What the frames of a stream mean: header blocks open and end requests, DATA is handed on.

A request's receiver is asked for once its head is read; a misdeed ends its stream, or, where the
connection's state is at stake, the connection (RFC 9113 sections 5.1 and 8.1).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from epp.wire import frames, headers
from epp.wire.frames import ConnectionFault, ErrorCode, StreamFault
from epp.wire.streams import End, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from epp.wire.headers import Head, HeaderReader
    from epp.wire.http2 import Connection
    from epp.wire.meters import Meters
    from epp.wire.streams import Receiver
    from epp.wire.windows import Outbox, ReceiveWindow, Withheld

_TOO_LARGE: Final = headers.encoded(((b":status", b"431"),))


class Incoming:
    """The handlers of one connection for DATA, RST_STREAM and whole header blocks."""

    def __init__(
        self,
        connection: Connection,
        accept: Callable[[Connection, Stream, Head], Receiver],
        window: ReceiveWindow,
        withheld: Withheld,
        outbox: Outbox,
        header_reader: HeaderReader,
        meters: Meters,
    ) -> None:
        self._connection = connection
        self._accept = accept
        self._streams = connection.streams
        self._gone = connection.streams.gone
        self._window = window
        self._withheld = withheld
        self._outbox = outbox
        self._header_reader = header_reader
        self._meters = meters

    # ---- DATA

    def on_data(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        size = end - start
        window = self._window
        if size > window.remaining:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overrun")
        window.remaining -= size
        stream = self._streams.get(stream_id)
        if stream is None or not stream.remote_open:
            self._on_stray_data(stream_id, size)
            return
        if size > stream.inbound.remaining:
            self._credit_connection(size)
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "stream window overrun")
        stream.inbound.remaining -= size
        if flags & frames.PADDED:
            start, end = frames.unpadded(data, start, end)
        if stream.awaited >= 0:
            self._await_less(stream, end - start, size)
        if end > start:
            if stream.receiver is not None:
                stream.receiver.data(data, start, end)
        elif not flags & frames.END_STREAM:
            self._meters.empty_data(self._connection.now)
        if increment := window.credit(size):
            self._outbox.ready.append(frames.window_frame(0, increment))
        if flags & frames.END_STREAM:
            self._end_remote(stream)
        elif stream.remote_open:
            self._credit_stream(stream, size)

    def _on_stray_data(self, stream_id: int, size: int) -> None:
        """DATA on a stream that takes none: fine while our reset is on its way."""
        if self._streams.never_opened(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on a stream that is not open")
        self._credit_connection(size)
        if self._gone.how(stream_id) is not End.RESET_HERE:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "DATA after the end")
        if not size:
            self._meters.unknown(self._connection.now, "frames on closed streams")

    def _await_less(self, stream: Stream, size: int, charged: int) -> None:
        stream.awaited -= size
        if stream.awaited < 0:
            self._credit_connection(charged)
            raise StreamFault(
                stream.stream_id, ErrorCode.PROTOCOL_ERROR, "more data than content-length"
            )

    def _credit_connection(self, size: int) -> None:
        if increment := self._window.credit(size):
            self._outbox.ready.append(frames.window_frame(0, increment))

    def _credit_stream(self, stream: Stream, size: int) -> None:
        inbound = stream.inbound
        if inbound.owe(size) and not self._withheld.keeps(stream, self._connection.now):
            increment = inbound.announce()
            self._outbox.ready.append(frames.window_frame(stream.stream_id, increment))

    def _end_remote(self, stream: Stream) -> None:
        if stream.remote_open:
            stream.remote_open = False
            self._close_remote(stream)

    def _close_remote(self, stream: Stream) -> None:
        if stream.awaited > 0:
            raise StreamFault(
                stream.stream_id, ErrorCode.PROTOCOL_ERROR, "less data than content-length"
            )
        if stream.receiver is not None:
            stream.receiver.half_closed()

    # ---- RST_STREAM, and faults

    def on_reset(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        if end - start != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM is 4 bytes")
        if self._streams.never_opened(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        connection = self._connection
        connection.counters.resets_in += 1
        stream = self._streams.get(stream_id)
        if stream is None:
            self._on_late_reset(stream_id)
            return
        connection.remove(stream, End.RESET_THERE)
        if stream.receiver is not None:
            stream.receiver.reset(by_peer=True)
        # Envoy resets every stream it is done with: only a reset of an unanswered one is suspect.
        if not stream.answered:
            self._meters.unanswered_reset(connection.now)

    def on_stream_fault(self, fault: StreamFault) -> None:
        """Reset a stream for the peer's fault; too many of those are an attack of their own."""
        connection = self._connection
        connection.counters.protocol_faults += 1
        stream = self._streams.get(fault.stream_id)
        if stream is None:
            connection.send_reset(fault.stream_id, fault.code)
            if self._gone.how(fault.stream_id) is not None:
                self._gone.bury(fault.stream_id, End.RESET_HERE)
        else:
            connection.cut(stream, fault.code)
        self._meters.unanswered_reset(connection.now)

    def _on_late_reset(self, stream_id: int) -> None:
        """One reset of a stream that is over is what Envoy does; a second means nothing."""
        if self._gone.how(stream_id) in (End.BOTH_SIDES, End.RESET_HERE):
            self._gone.bury(stream_id, End.RESET_THERE)
            return
        self._meters.unknown(self._connection.now, "frames on closed streams")

    # ---- header blocks

    def on_block(self, block: bytes, flags: int, stream_id: int) -> None:
        """A block that opens a request, or ends one."""
        if stream_id > self._streams.last:
            self._streams.last = stream_id
            self._open(block, flags, stream_id)
        else:
            self._on_trailers(block, flags, stream_id)

    def _open(self, block: bytes, flags: int, stream_id: int) -> None:
        counters = self._connection.counters
        counters.streams += 1
        try:
            head = self._header_reader.request(block)
        except headers.MalformedHeaders as error:
            counters.malformed_requests += 1
            self._gone.bury(stream_id, End.RESET_HERE)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        except headers.HeadersTooLarge:
            self._refuse_headers(stream_id, flags)
            return
        connection = self._connection
        if len(self._streams) >= connection.limits.max_streams or connection.last_named:
            self._refuse(stream_id)
            return
        self._admit(head, flags, stream_id)

    def _admit(self, head: Head, flags: int, stream_id: int) -> None:
        connection = self._connection
        stream = Stream(stream_id, self._outbox.initial_window, connection.limits.stream_window)
        stream.awaited = head.content_length
        stream.remote_open = not flags & frames.END_STREAM
        self._streams[stream_id] = stream
        stream.receiver = self._accept(connection, stream, head)
        if not stream.remote_open and stream_id in self._streams:
            self._close_remote(stream)

    def _refuse(self, stream_id: int) -> None:
        connection = self._connection
        self._gone.bury(stream_id, End.RESET_HERE)
        connection.send_reset(stream_id, ErrorCode.REFUSED_STREAM)
        if connection.last_named:
            connection.counters.streams_refused += 1
        else:
            self._meters.refused(connection.now)

    def _refuse_headers(self, stream_id: int, flags: int) -> None:
        """431 (RFC 9113 section 10.5.1): the list was too long, the connection is sound."""
        block = frames.header_frames(
            stream_id, _TOO_LARGE, self._outbox.frame_size, frames.END_STREAM
        )
        self._outbox.ready.append(block)
        if not flags & frames.END_STREAM:
            self._connection.send_reset(stream_id, ErrorCode.NO_ERROR)
        self._gone.bury(stream_id, End.RESET_HERE)
        self._meters.unanswered_reset(self._connection.now)

    def _on_trailers(self, block: bytes, flags: int, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            self._on_late_headers(block, stream_id)
            return
        try:
            self._header_reader.trailers(block)
        except (headers.MalformedHeaders, headers.HeadersTooLarge) as error:
            self._connection.counters.malformed_requests += 1
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        if not stream.remote_open:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after the end")
        if not flags & frames.END_STREAM:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "trailers must end a stream")
        self._end_remote(stream)

    def _on_late_headers(self, block: bytes, stream_id: int) -> None:
        """HEADERS on a stream that is over: fine while our reset is on its way."""
        how = self._gone.how(stream_id)
        if how is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "stream ids must rise")
        if how is not End.RESET_HERE:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
        self._meters.unknown(self._connection.now, "frames on closed streams")
        # Read for the sake of the table that later blocks may refer to.
        with contextlib.suppress(headers.MalformedHeaders, headers.HeadersTooLarge):
            self._header_reader.trailers(block)
