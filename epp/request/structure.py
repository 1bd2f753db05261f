"""The shape of a JSON text without its strings: brackets, and how deep they go.

Everything here expects valid JSON, that is bytes a decoder has already accepted.
"""

from typing import Final

import numpy as np

_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEP: Final = np.zeros(256, np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1


def brackets(text: bytes) -> bytes:
    """The brackets of `text` that stand outside strings; `text` begins outside a string.

    Once escaped backslashes and escaped quotes are gone, every quote left opens or closes a string.
    """
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(text.split(b'"')[::2]).translate(None, _NOT_BRACKETS)


def nesting(text: bytes) -> int:
    """How many brackets `text` leaves open; negative where it closes more than it opens."""
    shape = brackets(text)
    return 2 * (shape.count(b"[") + shape.count(b"{")) - len(shape)


def deeper_than(text: bytes, limit: int) -> bool:
    """Whether objects and arrays in `text` stand more than `limit` deep inside one another.

    A body with few opening brackets cannot be deep: one vectorised count answers for nearly all
    (5 us for 12 KB, 30 us for 220 KB); only what has more is read with its strings taken out
    (0.1 to 0.8 ms for 220 KB).
    """
    if len(text) <= 2 * limit or _openers(text) <= limit:
        return False
    shape = brackets(text)
    if len(shape) <= 2 * limit:
        return False
    steps = _STEP[np.frombuffer(shape, np.uint8)]
    return int(np.cumsum(steps, dtype=np.int32).max()) > limit


def _openers(text: bytes) -> int:
    """How many `[` and `{` there are, inside strings too: bit 5 alone tells the two apart."""
    return int(np.count_nonzero((np.frombuffer(text, np.uint8) | 0x20) == ord("{")))
