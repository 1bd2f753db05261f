"""HTTP/2 framing (RFC 9113 sections 4, 6 and 7): bytes become frames, frames become bytes.

`FrameReader` cuts a stream of bytes into frames in one pass and calls one function per frame; it
makes no object for a frame. What a frame means is decided in `http2`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE: Final = 9
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_SIZE: Final = 16_384
LARGEST_FRAME_SIZE: Final = 2**24 - 1
LARGEST_WINDOW: Final = 2**31 - 1
LARGEST_STREAM: Final = 2**31 - 1

# Frame types, as indices of the table of handlers.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
KNOWN_TYPES: Final = 10

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20


class ErrorCode(enum.IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Setting(enum.IntEnum):
    """RFC 9113 section 6.5.2."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


class ConnectionFault(Exception):
    """The peer broke the protocol or a limit: GOAWAY with this code, then close."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamFault(Exception):
    """One stream is in error: RST_STREAM with this code; the connection goes on."""

    def __init__(self, stream_id: int, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.stream_id = stream_id
        self.code = code
        self.reason = reason


FrameHandler = Callable[[bytes, int, int, int, int], None]
"""Gets (buffer, start, end, flags, stream id); the payload is buffer[start:end]."""

# 24 bits of length and 8 of type are read as one word.
_HEADER = Struct(">IBI")
_WORD = Struct(">I")
_TWO_WORDS = Struct(">II")
_SETTING = Struct(">HI")

frame_header = _HEADER.pack
"""frame_header(length << 8 | type, flags, stream id) -> 9 bytes"""


class FrameReader:
    """Cuts bytes into frames, whatever way the bytes were split, and keeps at most one frame.

    `handlers` has a function for each of the 256 frame types and may be swapped between two
    frames. A StreamFault raised by a handler goes to `on_stream_fault` and reading goes on; a
    ConnectionFault leaves `feed`.
    """

    __slots__ = ("_largest", "_on_stream_fault", "_rest", "_wanted", "frames", "handlers")

    def __init__(
        self,
        handlers: Sequence[FrameHandler],
        on_stream_fault: Callable[[StreamFault], None],
        largest: int = DEFAULT_FRAME_SIZE,
    ) -> None:
        self.handlers = handlers
        self.frames = 0
        self._on_stream_fault = on_stream_fault
        self._largest = largest
        self._rest = b""
        self._wanted = HEADER_SIZE

    @property
    def partial(self) -> int:
        """Bytes kept of a frame that is not whole yet."""
        return len(self._rest)

    def feed(self, data: bytes) -> None:
        """Handle every whole frame in `data` and what was kept before it.

        Raises ConnectionFault: FRAME_SIZE_ERROR for a frame larger than was advertised, and
        whatever a handler raises.
        """
        if self._rest:
            data = self._rest + data
        size = len(data)
        position = 0
        wanted = self._wanted
        while size - position >= wanted:
            word, flags, stream_id = _HEADER.unpack_from(data, position)
            end = position + HEADER_SIZE + (word >> 8)
            if end > size:
                wanted = self._checked(word >> 8)
                break
            if word >> 8 > self._largest:
                self._checked(word >> 8)
            start = position + HEADER_SIZE
            position = end
            wanted = HEADER_SIZE
            self.frames += 1
            try:
                self.handlers[word & 0xFF](data, start, end, flags, stream_id & LARGEST_STREAM)
            except StreamFault as fault:
                self._on_stream_fault(fault)
        self._wanted = wanted
        self._rest = data[position:] if position < size else b""

    def _checked(self, length: int) -> int:
        if length > self._largest:
            raise ConnectionFault(
                ErrorCode.FRAME_SIZE_ERROR, f"frame of {length} bytes, at most {self._largest}"
            )
        return HEADER_SIZE + length


def unpadded(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Bounds of a padded payload without its pad length and padding. Raises ConnectionFault."""
    if start == end:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "padded frame without a pad length")
    stop = end - data[start]
    if stop <= start:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding as long as the frame")
    return start + 1, stop


def word_at(data: bytes, start: int) -> int:
    """The 32-bit unsigned integer at `start`."""
    return int.from_bytes(data[start : start + 4], "big")


def settings_in(data: bytes, start: int, end: int) -> dict[int, int]:
    """The payload of a SETTINGS frame; of a name given twice the last value counts."""
    return dict(_SETTING.iter_unpack(data[start:end]))


def settings_frame(values: Iterable[tuple[Setting, int]]) -> bytes:
    body = b"".join(_SETTING.pack(name, value) for name, value in values)
    return frame_header(len(body) << 8 | SETTINGS, 0, 0) + body


SETTINGS_ACK: Final = frame_header(SETTINGS, ACK, 0)


def ping_frame(payload: bytes, flags: int = 0) -> bytes:
    return frame_header(len(payload) << 8 | PING, flags, 0) + payload


def reset_frame(stream_id: int, code: int) -> bytes:
    return frame_header(4 << 8 | RST_STREAM, 0, stream_id) + _WORD.pack(code)


def window_frame(stream_id: int, increment: int) -> bytes:
    return frame_header(4 << 8 | WINDOW_UPDATE, 0, stream_id) + _WORD.pack(increment)


def goaway_frame(last_stream: int, code: int, reason: str = "") -> bytes:
    debug = reason.encode("ascii", "replace")
    body = _TWO_WORDS.pack(last_stream, code) + debug
    return frame_header(len(body) << 8 | GOAWAY, 0, 0) + body


def header_frames(stream_id: int, block: bytes, frame_size: int, flags: int) -> bytes:
    """A header block as HEADERS and as many CONTINUATION frames as it takes."""
    if len(block) <= frame_size:
        return frame_header(len(block) << 8 | HEADERS, flags | END_HEADERS, stream_id) + block
    pieces = [block[at : at + frame_size] for at in range(0, len(block), frame_size)]
    frames = [frame_header(len(pieces[0]) << 8 | HEADERS, flags, stream_id) + pieces[0]]
    frames += [
        frame_header(len(piece) << 8 | CONTINUATION, 0, stream_id) + piece for piece in pieces[1:-1]
    ]
    last = pieces[-1]
    frames.append(frame_header(len(last) << 8 | CONTINUATION, END_HEADERS, stream_id) + last)
    return b"".join(frames)
