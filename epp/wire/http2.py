"""The server side of one HTTP/2 connection (RFC 9113), without a socket.

Bytes go in through `Connection.receive`, events come out as calls on a `Receiver` per stream, bytes
to write wait in `Connection.take`. Here is what its owner and its receivers may ask, and how it
ends. Framing is in `frames`, header blocks in `blocks` and `headers`, flow control in `windows`,
streams in `streams`; what frames mean is in `incoming` for a stream, in `control` for all.

It serves gRPC: no push, no priorities, no CONNECT. Time comes in through `receive` and `tick`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from epp.wire import frames
from epp.wire.blocks import Blocks
from epp.wire.budget import Backlog
from epp.wire.control import DRAIN, Control
from epp.wire.frames import ConnectionFault, ErrorCode, Setting
from epp.wire.headers import HeaderReader
from epp.wire.incoming import Incoming
from epp.wire.limits import Counters, Limits
from epp.wire.meters import Meters
from epp.wire.streams import End, Receiver, Stream, Streams
from epp.wire.timers import Timers, passed
from epp.wire.windows import Lane, Outbox, ReceiveWindow, Withheld

if TYPE_CHECKING:
    from collections.abc import Callable

    from epp.wire.headers import Head

_KEEPALIVE: Final = b"epp-live"


class Connection:
    """One connection. `accept(connection, stream, head)` opens the receiver of a request.

    `wake` is called when there is something to take that was not caused by `receive` or `tick`:
    once, until it is taken. `backlog` says when clients should be asked for less. After `closing`
    is true the owner writes what is left and closes.
    """

    def __init__(
        self,
        accept: Callable[[Connection, Stream, Head], Receiver],
        *,
        now: float,
        limits: Limits | None = None,
        wake: Callable[[], None] = lambda: None,
        peer: str = "",
        backlog: Backlog | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.counters = Counters(connections=1)
        self.now = now
        self.peer = peer
        self.closing = False
        self.draining = False
        self.fault: ConnectionFault | None = None
        self.streams = Streams(self.limits.max_streams + 100)
        self.assembling = 0
        """Bytes of unfinished messages that the receivers keep."""
        self.last_named = False
        """The last stream that will be served has been named: a drain's second step."""
        self._wake = wake
        self._busy = False
        self._woken = False
        self._lost = False
        self._drain_since: float | None = None
        self._timers = Timers(self.limits, self.counters, now)
        self._backlog = backlog or Backlog()
        self._withheld = Withheld(self._backlog, self.limits.window_patience)
        self._inbound = ReceiveWindow(self.limits.connection_window)
        self._outbox = Outbox(self.limits.high_water, self._on_finished, self._on_resumed)
        self._preface = b""
        self._greeted = False
        self._meters = Meters(self.limits, self.counters)
        self._header_reader = HeaderReader(
            self.limits.max_header_list, self.limits.remembered_blocks, self.counters
        )
        self._reader = self._frame_reader(accept)
        self._greet()

    # ---- set-up

    def _frame_reader(
        self, accept: Callable[[Connection, Stream, Head], Receiver]
    ) -> frames.FrameReader:
        """Joins the parts: who hears of which frame."""
        outbox, meters, timers, headers = (
            self._outbox,
            self._meters,
            self._timers,
            self._header_reader,
        )
        control = Control(outbox, self.streams, headers, meters, timers, self._on_drain_known)
        incoming = Incoming(self, accept, self._inbound, self._withheld, outbox, headers, meters)
        blocks = Blocks(self.limits, self.counters, timers, incoming.on_block)
        handlers: list[frames.FrameHandler] = [
            incoming.on_data,
            blocks.on_headers,
            control.on_priority,
            incoming.on_reset,
            control.on_settings,
            control.on_push_promise,
            control.on_ping,
            control.on_goaway,
            control.on_window_update,
            blocks.on_lone_continuation,
            *[control.on_unknown] * (256 - frames.KNOWN_TYPES),
        ]
        reader = frames.FrameReader(handlers, incoming.on_stream_fault, self.limits.max_frame_size)
        blocks.read_with(reader)
        control.expect_settings(reader)
        return reader

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
            if self._withheld.waiting:
                self._replenish()
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
        self.send_reset(stream.stream_id, code)
        self.remove(stream, End.RESET_HERE)
        if stream.receiver is not None:
            stream.receiver.reset(by_peer=False)
        self._rouse()

    def assemble(self, size: int) -> None:
        """Count bytes of an unfinished message as kept, or below 0 as kept no more."""
        self.assembling += size
        self._backlog.assembling += size

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
        self._outbox.ready.append(frames.ping_frame(DRAIN))
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
        self._outbox.ready.append(frames.goaway_frame(self.streams.last, fault.code, fault.reason))
        self._end_streams()

    def _end_streams(self) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            self._outbox.discard(stream)
            stream.local_open = stream.remote_open = False
            if stream.receiver is not None:
                stream.receiver.lost()

    def _check_times(self, now: float) -> None:
        self._timers.check(self._reader, now)
        self._check_drain(now)
        if self._withheld.waiting:
            self._replenish()
        if self._timers.keepalive_due(now):
            self._outbox.ready.append(frames.ping_frame(_KEEPALIVE))
        for stream in list(self._outbox.waiting.values()):
            self._check_stall(stream, now)
        for stream in list(self.streams.values()):
            if stream.receiver is not None:
                stream.receiver.tick(now)

    def _replenish(self) -> None:
        """Widen what was withheld and need not be any more."""
        for stream in self._withheld.let_go(self.now):
            if stream.remote_open and stream.inbound.due:
                increment = stream.inbound.announce()
                self._outbox.ready.append(frames.window_frame(stream.stream_id, increment))

    def _check_drain(self, now: float) -> None:
        if self._drain_since is not None and now - self._drain_since >= self.limits.drain_grace:
            self._settle_drain()
        if not self.streams and not self.draining and self._timers.idle_too_long(now):
            self.counters.idle_timeouts += 1
            self.drain()

    def _on_drain_known(self) -> None:
        if self.draining:
            self._settle_drain()

    def _settle_drain(self) -> None:
        """The second step: name the last stream that will be served."""
        if self.last_named:
            return
        self._drain_since = None
        self.last_named = True
        self._outbox.ready.append(frames.goaway_frame(self.streams.last, ErrorCode.NO_ERROR))
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
            self.send_reset(stream.stream_id, ErrorCode.NO_ERROR)
            self.remove(stream, End.RESET_HERE)
        else:
            self.remove(stream, End.BOTH_SIDES)

    def _on_resumed(self, lane: Lane) -> None:
        stream = self.streams.get(lane.stream_id)
        if stream is not None and stream.receiver is not None:
            stream.receiver.resumed()

    def remove(self, stream: Stream, how: End) -> None:
        if self.streams.pop(stream.stream_id, None) is None:
            return
        stream.remote_open = stream.local_open = False
        self._outbox.discard(stream)
        self.streams.gone.bury(stream.stream_id, how)
        if not self.streams:
            self._timers.last_stream_end = self.now
            self.closing = self.closing or self.last_named

    def send_reset(self, stream_id: int, code: ErrorCode) -> None:
        self.counters.resets_out += 1
        self._outbox.reset(stream_id, code)
