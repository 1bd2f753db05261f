"""HEADERS and CONTINUATION frames become whole header blocks (RFC 9113 sections 6.2 and 6.10).

Between the two nothing else may come: until a block is whole, the reader's handlers are these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from epp.wire import frames
from epp.wire.frames import ConnectionFault, ErrorCode, StreamFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from epp.wire.frames import FrameHandler, FrameReader
    from epp.wire.limits import Counters, Limits
    from epp.wire.timers import Timers


class Blocks:
    """Hands each whole block to `on_block(block, flags of its HEADERS, stream id)`."""

    def __init__(
        self,
        limits: Limits,
        counters: Counters,
        timers: Timers,
        on_block: Callable[[bytes, int, int], None],
    ) -> None:
        self._limits = limits
        self._counters = counters
        self._timers = timers
        self._on_block = on_block
        self._reader: FrameReader | None = None
        self._handlers: Sequence[FrameHandler] = ()
        self._pieces: list[bytes] = []
        self._size = 0
        self._stream = 0
        self._flags = 0
        self._only_continuation: list[FrameHandler] = [self._interrupted] * 256
        self._only_continuation[frames.CONTINUATION] = self._on_continuation

    def read_with(self, reader: FrameReader) -> None:
        """Whose handlers to change inside a block, and to put back after it."""
        self._reader = reader
        self._handlers = reader.handlers

    def on_headers(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
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
            self._begin(data[start:end], flags, stream_id)
        if depends_on_itself:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "stream depends on itself")

    def on_lone_continuation(
        self, data: bytes, start: int, end: int, flags: int, stream_id: int
    ) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")

    def _begin(self, piece: bytes, flags: int, stream_id: int) -> None:
        self._pieces = [piece]
        self._size = len(piece)
        self._stream = stream_id
        self._flags = flags
        self._timers.block_since = self._timers.last_read
        self._swap(self._only_continuation)

    def _on_continuation(
        self, data: bytes, start: int, end: int, flags: int, stream_id: int
    ) -> None:
        if stream_id != self._stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of another stream")
        self._pieces.append(data[start:end])
        self._size += end - start
        if (
            len(self._pieces) > self._limits.max_continuations + 1
            or self._size > self._limits.max_header_block
        ):
            self._counters.floods += 1
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too large")
        if flags & frames.END_HEADERS:
            block = b"".join(self._pieces)
            self._pieces = []
            self._timers.block_since = None
            self._swap(self._handlers)
            self._on_block(block, self._flags, stream_id)

    def _interrupted(self, data: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "header block interrupted")

    def _swap(self, handlers: Sequence[FrameHandler]) -> None:
        assert self._reader is not None
        self._reader.handlers = handlers
