"""Frames about a connection itself: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, and what means nothing.

Each handler checks its frame (RFC 9113 section 6), counts it, and applies it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from epp.wire import frames
from epp.wire.frames import ConnectionFault, ErrorCode, Setting, StreamFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from epp.wire.frames import FrameHandler, FrameReader
    from epp.wire.headers import HeaderReader
    from epp.wire.meters import Meters
    from epp.wire.streams import Streams
    from epp.wire.timers import Timers
    from epp.wire.windows import Outbox

DRAIN: Final = b"epp-gone"
"""The PING whose answer says that the client knows of the drain."""
_LARGEST_FRAME_SENT: Final = 1 << 16


class Control:
    """The handlers of one connection. `on_drain_known` hears that the client knows of the drain."""

    def __init__(
        self,
        outbox: Outbox,
        streams: Streams,
        header_reader: HeaderReader,
        meters: Meters,
        timers: Timers,
        on_drain_known: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._streams = streams
        self._header_reader = header_reader
        self._meters = meters
        self._timers = timers
        self._on_drain_known = on_drain_known

    def expect_settings(self, reader: FrameReader) -> None:
        """The first frame must be SETTINGS; after it the reader has the handlers it has now."""
        handlers = reader.handlers

        def begun(data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
            if flags & frames.ACK:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first SETTINGS is no answer")
            reader.handlers = handlers
            self.on_settings(data, start, end, flags, stream_id)

        first: list[FrameHandler] = [self._not_settings] * 256
        first[frames.SETTINGS] = begun
        reader.handlers = first

    def _not_settings(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")

    def on_settings(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        size = end - start
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if size % 6 or (flags & frames.ACK and size):
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        self._meters.settings(self._timers.last_read)
        if flags & frames.ACK:
            if not self._timers.settings_acknowledged:
                self._timers.settings_acknowledged = True
                self._header_reader.acknowledged()
            return
        self._outbox.ready.append(frames.SETTINGS_ACK)
        self._apply(frames.settings_in(data, start, end))

    def on_ping(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        if end - start != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING is 8 bytes")
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        self._meters.ping(self._timers.last_read)
        payload = data[start:end]
        if not flags & frames.ACK:
            self._outbox.ready.append(frames.ping_frame(payload, frames.ACK))
        elif payload == DRAIN:
            self._on_drain_known()

    def on_window_update(
        self, data: bytes, start: int, end: int, flags: int, stream_id: int
    ) -> None:
        if end - start != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is 4 bytes")
        self._meters.window_update(self._timers.last_read, self._outbox.data_frames)
        increment = frames.word_at(data, start) & frames.LARGEST_WINDOW
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "window increment of 0")
            if not self._outbox.opened_all(increment):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "window overflows")
            return
        if self._streams.never_opened(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if increment == 0:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "window increment of 0")
        if not self._outbox.opened(stream, increment):
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "window overflows")

    def on_goaway(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if end - start < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is 8 bytes and more")
        self._meters.unknown(self._timers.last_read, "GOAWAY frames")

    def on_priority(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        self._meters.priority(self._timers.last_read)
        if end - start != 5:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is 5 bytes")
        if frames.word_at(data, start) & frames.LARGEST_STREAM == stream_id:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "stream depends on itself")

    def on_push_promise(
        self, data: bytes, start: int, end: int, flags: int, stream_id: int
    ) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")

    def on_unknown(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        self._meters.unknown(self._timers.last_read, "frames of unknown types")

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
        for stream in list(self._streams.values()):
            if not self._outbox.opened(stream, change):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflows")
