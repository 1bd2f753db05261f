"""Chunks of an event stream, cut at line ends wherever the network has cut them."""

from collections.abc import Iterator
from typing import Final, TypeAlias

Piece: TypeAlias = tuple[bytes, bool]
"""Bytes of the stream, and whether they are whole lines (or part of one too long to hold)."""

MOST_LINE_BYTES: Final = 1024 * 1024
"""A Responses API stream repeats the whole answer in its last line."""


class LineCutter:
    """Holds back the line that is not finished yet, up to `most` bytes of it."""

    __slots__ = ("_held", "_held_bytes", "_inside_long", "_most")

    def __init__(self, most: int = MOST_LINE_BYTES) -> None:
        self._most = most
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._inside_long = False

    def feed(self, data: bytes) -> list[Piece]:
        """All that can go on now, in order."""
        pieces: list[Piece] = []
        if self._inside_long:
            start = data.find(b"\n") + 1 or len(data)
            self._inside_long = not data.endswith(b"\n", 0, start)
            pieces.append((data[:start], False))
            data = data[start:]
        end = data.rfind(b"\n") + 1
        if end:
            pieces.append((self._release(data[:end]), True))
        self._hold(data[end:])
        if self._held_bytes > self._most:
            self._inside_long = True
            pieces.append((self._release(b""), False))
        return pieces

    def end(self) -> bytes:
        """The last line, if the stream did not finish it."""
        return self._release(b"")

    def _hold(self, data: bytes) -> None:
        if data:
            self._held.append(data)
            self._held_bytes += len(data)

    def _release(self, data: bytes) -> bytes:
        if not self._held:
            return data
        whole = b"".join((*self._held, data))
        self._held.clear()
        self._held_bytes = 0
        return whole


def payloads(lines: bytes, needle: bytes, most: int = MOST_LINE_BYTES) -> Iterator[tuple[int, int]]:
    """Spans of the JSON of each `data:` line in `lines` that contains `needle`."""
    at = lines.find(needle)
    while at >= 0:
        start = lines.rfind(b"\n", 0, at) + 1
        end = lines.find(b"\n", at)
        end = len(lines) if end < 0 else end
        if end - start <= most and lines.startswith(b"data:", start):
            yield start + len(b"data:"), end
        at = lines.find(needle, end)
