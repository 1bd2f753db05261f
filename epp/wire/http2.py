"""The server side of one HTTP/2 connection (RFC 9113), without a socket.

Bytes go in through `Connection.receive`, events come out as calls on a `Receiver` per stream, bytes
to write wait in `Connection.take`. Framing is in `frames`, header blocks in `headers`, flow control
in `windows`, streams in `streams`; here is what each frame means, and the answer to every misdeed.

It serves gRPC: no push, no priorities, no CONNECT. Time comes in through `receive` and `tick`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from epp.wire import frames, headers
from epp.wire.frames import ConnectionFault, ErrorCode, Setting, StreamFault
from epp.wire.limits import Counters, Limits
from epp.wire.meters import Meters
from epp.wire.streams import End, Graves, Receiver, Stream
from epp.wire.timers import Timers, passed
from epp.wire.windows import Lane, Outbox, ReceiveWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from epp.wire.headers import Head

_LARGEST_FRAME_SENT: Final = 1 << 16
_KEEPALIVE: Final = b"epp-live"
_DRAIN: Final = b"epp-gone"
_TOO_LARGE: Final = headers.encoded(((b":status", b"431"),))


class Connection:
    """One connection. `accept(connection, stream, head)` opens the receiver of a request.

    `wake` is called when there is something to take that was not caused by `receive` or `tick`:
    once, until it is taken. After `closing` is true the owner writes what is left and closes.
    """

    def __init__(
        self,
        accept: Callable[[Connection, Stream, Head], Receiver],
        *,
        now: float,
        limits: Limits | None = None,
        wake: Callable[[], None] = lambda: None,
        peer: str = "",
    ) -> None:
        self.limits = limits or Limits()
        self.counters = Counters(connections=1)
        self.now = now
        self.peer = peer
        self.closing = False
        self.draining = False
        self.fault: ConnectionFault | None = None
        self.streams: dict[int, Stream] = {}
        self.assembling = 0
        """Bytes of unfinished messages, kept by the receivers."""
        self._accept = accept
        self._wake = wake
        self._busy = False
        self._woken = False
        self._lost = False
        self._begin_framing()
        self._meters = Meters(self.limits, self.counters)
        self._timers = Timers(self.limits, self.counters, now)
        self._drain_since: float | None = None
        self._last_stream = 0
        self._final_stream: int | None = None
        self._gone = Graves(self.limits.max_streams + 100)
        self._begin_header_blocks()
        self._greet()

    # ---- set-up

    def _begin_framing(self) -> None:
        unknown = [self._on_unknown] * (256 - frames.KNOWN_TYPES)
        self._handlers: list[frames.FrameHandler] = [
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_reset,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_goaway,
            self._on_window_update,
            self._on_lone_continuation,
            *unknown,
        ]
        self._preface = b""
        self._greeted = False
        first = [self._on_not_settings] * 256
        first[frames.SETTINGS] = self._on_first_settings
        self._reader = frames.FrameReader(first, self._on_stream_fault, self.limits.max_frame_size)
        self._inbound = ReceiveWindow(self.limits.connection_window)
        self._outbox = Outbox(self.limits.high_water, self._on_finished, self._on_resumed)

    def _begin_header_blocks(self) -> None:
        self._header_reader = headers.HeaderReader(
            self.limits.max_header_list, self.limits.remembered_blocks, self.counters
        )
        self._block: list[bytes] = []
        self._block_size = 0
        self._block_stream = 0
        self._block_flags = 0
        self._only_continuation = [self._on_interrupted_block] * 256
        self._only_continuation[frames.CONTINUATION] = self._on_continuation

    def _greet(self) -> None:
        limits = self.limits
        values = [
            (Setting.HEADER_TABLE_SIZE, 0),
            (Setting.MAX_CONCURRENT_STREAMS, limits.max_streams),
            (Setting.INITIAL_WINDOW_SIZE, limits.stream_window),
            (Setting.MAX_HEADER_LIST_SIZE, limits.max_header_list),
        ]
        if limits.max_frame_size != frames.DEFAULT_FRAME_SIZE:
            values.append((Setting.MAX_FRAME_SIZE, limits.max_frame_size))
        self._outbox.ready.append(frames.settings_frame(values))
        extra = limits.connection_window - frames.DEFAULT_WINDOW
        if extra > 0:
            self._outbox.ready.append(frames.window_frame(0, extra))

    # ---- bytes in, bytes out

    def receive(self, data: bytes, now: float) -> None:
        """Read what came from the socket. Never raises for what a peer may send."""
        if self.closing or self._lost:
            return
        self.now = self._timers.last_read = now
        self.counters.bytes_in += len(data)
        self._busy = True
        try:
            self._reader.feed(data if self._greeted else self._without_preface(data))
        except ConnectionFault as fault:
            self._fail(fault)
        finally:
            self._busy = False

    def take(self) -> bytes:
        """Everything there is to write, once."""
        self._woken = False
        ready = self._outbox.ready
        if not ready:
            return b""
        self._outbox.ready = []
        data = b"".join(ready)
        counters = self.counters
        counters.bytes_out += len(data)
        counters.frames_in = self._reader.frames
        counters.data_frames_out = self._outbox.data_frames
        return data

    def pause(self) -> None:
        """The socket takes no more for now: data queues here, where it is counted."""
        self._outbox.blocked = True

    def resume(self) -> None:
        """The socket takes more again."""
        self._outbox.blocked = False
        self._outbox.pump_all()
        self._rouse()

    def _rouse(self) -> None:
        if not self._busy and not self._woken and self._outbox.ready:
            self._woken = True
            self._wake()

    def _without_preface(self, data: bytes) -> bytes:
        self._preface += data
        got = self._preface
        if not frames.PREFACE.startswith(got[: len(frames.PREFACE)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 client")
        if len(got) < len(frames.PREFACE):
            return b""
        self._greeted = True
        self._preface = b""
        return got[len(frames.PREFACE) :]

    # ---- what a receiver does with its stream

    def respond(self, stream: Stream, block: bytes) -> None:
        """Send the answer's header block."""
        stream.answered = True
        self._outbox.headers(stream, block)
        self._rouse()

    def send(self, stream: Stream, prefix: bytes, payload: bytes) -> None:
        """Send prefix + payload as data. Resets the stream when too much is queued."""
        self._outbox.data(stream, prefix, payload)
        self.counters.messages_out += 1
        if self._outbox.queued > self.limits.max_queued:
            self.counters.queues_overrun += 1
            self.cut(stream, ErrorCode.ENHANCE_YOUR_CALM)
        self._rouse()

    def finish(self, stream: Stream, block: bytes) -> None:
        """End the answer with a header block, after all data."""
        stream.answered = True
        stream.local_open = False
        self._outbox.finish(stream, block)
        self._rouse()

    def cut(self, stream: Stream, code: ErrorCode) -> None:
        """Reset a stream from our side and tell its receiver."""
        self._send_reset(stream.stream_id, code)
        self._remove(stream, End.RESET_HERE)
        if stream.receiver is not None:
            stream.receiver.reset(by_peer=False)
        self._rouse()

    def hold(self, stream: Stream, size: int) -> None:
        """Keep `size` received bytes from going back to the peer's windows."""
        stream.inbound.hold(size)
        self._inbound.hold(size)

    def consumed(self, stream: Stream, size: int) -> None:
        """Give `size` held bytes back; nothing once the stream is over, for then all went back."""
        if stream.stream_id not in self.streams:
            return
        size = min(size, stream.inbound.held)
        if increment := self._inbound.release(size):
            self._outbox.ready.append(frames.window_frame(0, increment))
        if (increment := stream.inbound.release(size)) and stream.remote_open:
            self._outbox.ready.append(frames.window_frame(stream.stream_id, increment))
        self._rouse()

    # ---- time and the end

    def tick(self, now: float) -> None:
        """Look at every timer; call it about four times a second."""
        if self.closing or self._lost:
            return
        self.now = now
        self._busy = True
        try:
            self._check_times(now)
        except ConnectionFault as fault:
            self._fail(fault)
        finally:
            self._busy = False

    def drain(self) -> None:
        """Begin a graceful end: announce it, and after a round trip refuse new streams."""
        if self.draining or self.closing or self._lost:
            return
        self.draining = True
        self._drain_since = self.now
        self._outbox.ready.append(frames.goaway_frame(frames.LARGEST_STREAM, ErrorCode.NO_ERROR))
        self._outbox.ready.append(frames.ping_frame(_DRAIN))
        self._rouse()

    def stop(self) -> None:
        """The drain's deadline has come: let receivers answer a last time, then close."""
        for stream in list(self.streams.values()):
            if stream.receiver is not None and stream.local_open:
                stream.receiver.stopping()
        self._fail(ConnectionFault(ErrorCode.NO_ERROR, "stopped"))
        self._rouse()

    def lost(self) -> None:
        """The socket is gone."""
        if not self._lost:
            self._lost = True
            self._end_streams()

    def _fail(self, fault: ConnectionFault) -> None:
        if self.closing or self._lost:
            return
        self.closing = True
        if fault.code != ErrorCode.NO_ERROR:
            self.fault = fault
            self.counters.protocol_faults += 1
        self._outbox.ready.append(frames.goaway_frame(self._last_stream, fault.code, fault.reason))
        self._end_streams()

    def _end_streams(self) -> None:
        streams, self.streams = list(self.streams.values()), {}
        for stream in streams:
            self._outbox.discard(stream)
            stream.local_open = stream.remote_open = False
            if stream.receiver is not None:
                stream.receiver.lost()

    def _check_times(self, now: float) -> None:
        self._timers.check(self._reader, now)
        self._check_drain(now)
        if self._timers.keepalive_due(now):
            self._outbox.ready.append(frames.ping_frame(_KEEPALIVE))
        for stream in list(self._outbox.waiting.values()):
            self._check_stall(stream, now)
        for stream in list(self.streams.values()):
            if stream.receiver is not None:
                stream.receiver.tick(now)

    def _check_drain(self, now: float) -> None:
        if self._drain_since is not None and now - self._drain_since >= self.limits.drain_grace:
            self._settle_drain()
        if not self.streams and not self.draining and self._timers.idle_too_long(now):
            self.counters.idle_timeouts += 1
            self.drain()

    def _settle_drain(self) -> None:
        """The second step: name the last stream that will be served."""
        if self._final_stream is not None:
            return
        self._drain_since = None
        self._final_stream = self._last_stream
        self._outbox.ready.append(frames.goaway_frame(self._last_stream, ErrorCode.NO_ERROR))
        self.closing = not self.streams

    def _check_stall(self, lane: Lane, now: float) -> None:
        if lane.stuck_since < 0:
            lane.stuck_since = now
        elif passed(now - lane.stuck_since, self.limits.stall_timeout):
            self.counters.stalls += 1
            self.cut(self.streams[lane.stream_id], ErrorCode.CANCEL)

    # ---- streams

    def _on_finished(self, lane: Lane) -> None:
        stream = self.streams.get(lane.stream_id)
        if stream is None:
            return
        if stream.remote_open:
            # The answer is whole, the rest of the request is of no use (RFC 9113 section 8.1).
            self._send_reset(stream.stream_id, ErrorCode.NO_ERROR)
            self._remove(stream, End.RESET_HERE)
        else:
            self._remove(stream, End.BOTH_SIDES)

    def _on_resumed(self, lane: Lane) -> None:
        stream = self.streams.get(lane.stream_id)
        if stream is not None and stream.receiver is not None:
            stream.receiver.resumed()

    def _remove(self, stream: Stream, how: End) -> None:
        if self.streams.pop(stream.stream_id, None) is None:
            return
        stream.remote_open = stream.local_open = False
        self._outbox.discard(stream)
        if stream.inbound.held and (increment := self._inbound.release(stream.inbound.held)):
            self._outbox.ready.append(frames.window_frame(0, increment))
        self._gone.bury(stream.stream_id, how)
        if not self.streams:
            self._timers.last_stream_end = self.now
            self.closing = self.closing or self._final_stream is not None

    def _send_reset(self, stream_id: int, code: ErrorCode) -> None:
        self.counters.resets_out += 1
        self._outbox.reset(stream_id, code)

    def _on_stream_fault(self, fault: StreamFault) -> None:
        """Reset a stream for the peer's fault; too many of those are an attack of their own."""
        self.counters.protocol_faults += 1
        stream = self.streams.get(fault.stream_id)
        if stream is None:
            self._send_reset(fault.stream_id, fault.code)
            if self._gone.how(fault.stream_id) is not None:
                self._gone.bury(fault.stream_id, End.RESET_HERE)
        else:
            self.cut(stream, fault.code)
        self._meters.unanswered_reset(self.now)

    # ---- frames

    def _on_data(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        size = end - start
        inbound = self._inbound
        if size > inbound.remaining:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overrun")
        inbound.remaining -= size
        stream = self.streams.get(stream_id)
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
            self._meters.empty_data(self.now)
        if increment := inbound.credit(size):
            self._outbox.ready.append(frames.window_frame(0, increment))
        if flags & frames.END_STREAM:
            self._end_remote(stream)
        elif stream.remote_open:
            self._credit_stream(stream, size)

    def _on_stray_data(self, stream_id: int, size: int) -> None:
        """DATA on a stream that takes none: fine while our reset is on its way."""
        if stream_id > self._last_stream or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on a stream that is not open")
        self._credit_connection(size)
        if self._gone.how(stream_id) is not End.RESET_HERE:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "DATA after the end")
        if not size:
            self._meters.unknown(self.now, "frames on closed streams")

    def _await_less(self, stream: Stream, size: int, charged: int) -> None:
        stream.awaited -= size
        if stream.awaited < 0:
            self._credit_connection(charged)
            raise StreamFault(
                stream.stream_id, ErrorCode.PROTOCOL_ERROR, "more data than content-length"
            )

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

    def _credit_connection(self, size: int) -> None:
        if increment := self._inbound.credit(size):
            self._outbox.ready.append(frames.window_frame(0, increment))

    def _credit_stream(self, stream: Stream, size: int) -> None:
        if increment := stream.inbound.credit(size):
            self._outbox.ready.append(frames.window_frame(stream.stream_id, increment))

    def _on_headers(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on an even stream")
        if flags & frames.PADDED:
            start, end = frames.unpadded(data, start, end)
        depends_on_itself = False
        if flags & frames.WITH_PRIORITY:
            if end - start < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its priority")
            dependency = frames.word_at(data, start) & frames.LARGEST_STREAM
            depends_on_itself = dependency == stream_id
            start += 5
        if flags & frames.END_HEADERS:
            self._on_block(data[start:end], flags, stream_id)
        else:
            self._begin_block(data[start:end], flags, stream_id)
        if depends_on_itself:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "stream depends on itself")

    def _begin_block(self, piece: bytes, flags: int, stream_id: int) -> None:
        self._block = [piece]
        self._block_size = len(piece)
        self._block_stream = stream_id
        self._block_flags = flags
        self._timers.block_since = self.now
        self._reader.handlers = self._only_continuation

    def _on_continuation(
        self, data: bytes, start: int, end: int, flags: int, stream_id: int
    ) -> None:
        if stream_id != self._block_stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of another stream")
        self._block.append(data[start:end])
        self._block_size += end - start
        if (
            len(self._block) > self.limits.max_continuations + 1
            or self._block_size > self.limits.max_header_block
        ):
            self.counters.floods += 1
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too large")
        if flags & frames.END_HEADERS:
            block = b"".join(self._block)
            self._block = []
            self._timers.block_since = None
            self._reader.handlers = self._handlers
            self._on_block(block, self._block_flags, stream_id)

    def _on_interrupted_block(
        self, data: bytes, start: int, end: int, flags: int, stream_id: int
    ) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "header block interrupted")

    def _on_lone_continuation(
        self, data: bytes, start: int, end: int, flags: int, stream_id: int
    ) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")

    def _on_block(self, block: bytes, flags: int, stream_id: int) -> None:
        if stream_id > self._last_stream:
            self._last_stream = stream_id
            self._open(block, flags, stream_id)
        else:
            self._on_trailers(block, flags, stream_id)

    def _open(self, block: bytes, flags: int, stream_id: int) -> None:
        self.counters.streams += 1
        try:
            head = self._header_reader.request(block)
        except headers.MalformedHeaders as error:
            self.counters.malformed_requests += 1
            self._gone.bury(stream_id, End.RESET_HERE)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        except headers.HeadersTooLarge:
            self._refuse_headers(stream_id, flags)
            return
        if len(self.streams) >= self.limits.max_streams or self._final_stream is not None:
            self._refuse(stream_id)
            return
        self._admit(head, flags, stream_id)

    def _admit(self, head: Head, flags: int, stream_id: int) -> None:
        stream = Stream(stream_id, self._outbox.initial_window, self.limits.stream_window)
        stream.awaited = head.content_length
        stream.remote_open = not flags & frames.END_STREAM
        self.streams[stream_id] = stream
        stream.receiver = self._accept(self, stream, head)
        if not stream.remote_open and stream_id in self.streams:
            self._close_remote(stream)

    def _refuse(self, stream_id: int) -> None:
        self._gone.bury(stream_id, End.RESET_HERE)
        self._send_reset(stream_id, ErrorCode.REFUSED_STREAM)
        if self._final_stream is None:
            self._meters.refused(self.now)
        else:
            self.counters.streams_refused += 1

    def _refuse_headers(self, stream_id: int, flags: int) -> None:
        """431 (RFC 9113 section 10.5.1): the list was too long, the connection is sound."""
        block = frames.header_frames(
            stream_id, _TOO_LARGE, self._outbox.frame_size, frames.END_STREAM
        )
        self._outbox.ready.append(block)
        if not flags & frames.END_STREAM:
            self._send_reset(stream_id, ErrorCode.NO_ERROR)
        self._gone.bury(stream_id, End.RESET_HERE)
        self._meters.unanswered_reset(self.now)

    def _on_trailers(self, block: bytes, flags: int, stream_id: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            self._on_late_headers(block, stream_id)
            return
        try:
            self._header_reader.trailers(block)
        except (headers.MalformedHeaders, headers.HeadersTooLarge) as error:
            self.counters.malformed_requests += 1
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
        self._meters.unknown(self.now, "frames on closed streams")
        # Read for the sake of the table that later blocks may refer to.
        with contextlib.suppress(headers.MalformedHeaders, headers.HeadersTooLarge):
            self._header_reader.trailers(block)

    def _on_priority(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        self._meters.priority(self.now)
        if end - start != 5:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is 5 bytes")
        if frames.word_at(data, start) & frames.LARGEST_STREAM == stream_id:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "stream depends on itself")

    def _on_reset(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        if end - start != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM is 4 bytes")
        if stream_id > self._last_stream or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        self.counters.resets_in += 1
        stream = self.streams.get(stream_id)
        if stream is None:
            self._on_late_reset(stream_id)
            return
        self._remove(stream, End.RESET_THERE)
        if stream.receiver is not None:
            stream.receiver.reset(by_peer=True)
        # Envoy resets every stream it is done with: only a reset of an unanswered one is suspect.
        if not stream.answered:
            self._meters.unanswered_reset(self.now)

    def _on_late_reset(self, stream_id: int) -> None:
        """One reset of a stream that is over is what Envoy does; a second means nothing."""
        if self._gone.how(stream_id) in (End.BOTH_SIDES, End.RESET_HERE):
            self._gone.bury(stream_id, End.RESET_THERE)
            return
        self._meters.unknown(self.now, "frames on closed streams")

    def _on_not_settings(
        self, data: bytes, start: int, end: int, flags: int, stream_id: int
    ) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")

    def _on_first_settings(
        self, data: bytes, start: int, end: int, flags: int, stream_id: int
    ) -> None:
        if flags & frames.ACK:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first SETTINGS is no answer")
        self._reader.handlers = self._handlers
        self._on_settings(data, start, end, flags, stream_id)

    def _on_settings(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        size = end - start
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if size % 6 or (flags & frames.ACK and size):
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        self._meters.settings(self.now)
        if flags & frames.ACK:
            if not self._timers.settings_acknowledged:
                self._timers.settings_acknowledged = True
                self._header_reader.acknowledged()
            return
        self._outbox.ready.append(frames.SETTINGS_ACK)
        self._apply(frames.settings_in(data, start, end))

    def _apply(self, values: dict[int, int]) -> None:
        if values.get(Setting.ENABLE_PUSH, 0) > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        frame_size = values.get(Setting.MAX_FRAME_SIZE, self._outbox.frame_size)
        if not frames.DEFAULT_FRAME_SIZE <= frame_size <= frames.LARGEST_FRAME_SIZE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range")
        self._outbox.frame_size = min(frame_size, _LARGEST_FRAME_SENT)
        window = values.get(Setting.INITIAL_WINDOW_SIZE)
        if window is not None:
            self._resize_windows(window)

    def _resize_windows(self, size: int) -> None:
        if size > frames.LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE too large")
        change = size - self._outbox.initial_window
        self._outbox.initial_window = size
        for stream in list(self.streams.values()):
            if not self._outbox.opened(stream, change):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflows")

    def _on_push_promise(
        self, data: bytes, start: int, end: int, flags: int, stream_id: int
    ) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")

    def _on_ping(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        if end - start != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING is 8 bytes")
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        self._meters.ping(self.now)
        payload = data[start:end]
        if not flags & frames.ACK:
            self._outbox.ready.append(frames.ping_frame(payload, frames.ACK))
        elif payload == _DRAIN and self.draining:
            self._settle_drain()

    def _on_goaway(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if end - start < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is 8 bytes and more")
        self._meters.unknown(self.now, "GOAWAY frames")

    def _on_window_update(
        self, data: bytes, start: int, end: int, flags: int, stream_id: int
    ) -> None:
        if end - start != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is 4 bytes")
        self._meters.window_update(self.now, self._outbox.data_frames)
        increment = frames.word_at(data, start) & frames.LARGEST_WINDOW
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "window increment of 0")
            if not self._outbox.opened_all(increment):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "window overflows")
            return
        if stream_id > self._last_stream or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if increment == 0:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "window increment of 0")
        if not self._outbox.opened(stream, increment):
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "window overflows")

    def _on_unknown(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        self._meters.unknown(self.now, "frames of unknown types")
