"""How large a picture is and how long a sound lasts, by the first bytes of its base64 data."""

import binascii
from struct import Struct
from typing import Final

HEAD: Final = 1024
LONG_HEAD: Final = 96 * 1024
"""Bytes: a JPEG may have a small picture of itself before it says how large it is."""

_BE_PAIR: Final = Struct(">II")
_BE_SHORT: Final = Struct(">H")
_BE_SHORTS: Final = Struct(">HH")
_LE_SHORTS: Final = Struct("<HH")
_LE_LONG: Final = Struct("<I")
_SIZES_AT: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""JPEG segments that begin a frame."""


def picture_size(data: memoryview) -> tuple[int, int]:
    """Width and height of a PNG, GIF, WebP or JPEG in base64; zeros for anything else."""
    head = _decoded(data, HEAD)
    if head.startswith(b"\xff\xd8"):
        return _jpeg(head) or _jpeg(_decoded(data, LONG_HEAD)) or (0, 0)
    if len(head) < 30:
        return 0, 0
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _BE_PAIR.unpack_from(head, 16)
    if head.startswith(b"GIF8"):
        return _LE_SHORTS.unpack_from(head, 6)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp(head)
    return 0, 0


def wave_seconds(data: memoryview) -> float:
    """How long a WAV in base64 lasts; 0 for anything else."""
    head = _decoded(data, HEAD)
    if len(head) < 36 or head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt ":
        return 0.0
    (rate,) = _LE_LONG.unpack_from(head, 28)
    return decoded_size(data) / rate if rate else 0.0


def decoded_size(data: memoryview) -> int:
    """Bytes behind so much base64."""
    return len(data) * 3 // 4


def _decoded(data: memoryview, size: int) -> bytes:
    """About the first `size` bytes; nothing where it is no base64."""
    start = bytes(data[: size * 4 // 3]).replace(b"\\/", b"/")
    try:
        return binascii.a2b_base64(start[: len(start) // 4 * 4])
    except binascii.Error:
        return b""


def _jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        if head[at + 1] in _SIZES_AT:
            height, width = _BE_SHORTS.unpack_from(head, at + 5)
            return width, height
        at += 2 + max(_BE_SHORT.unpack_from(head, at + 2)[0], 2)
    return None


def _webp(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8 ":
        width, height = _LE_SHORTS.unpack_from(head, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = _LE_LONG.unpack_from(head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        width, height = head[24:27], head[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    return 0, 0
