"""Chained hashes of full blocks, as vLLM's `sha256_cbor` makes them.

    hash[i] = SHA-256(CBOR([hash[i-1], [tokens of block i], extra or null]))
    hash[-1] = SHA-256(CBOR(seed text))

CBOR is the canonical form of RFC 8949. Keys are the whole digest as a number; events carry its low
64 bits or its 32 bytes.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_SEED = "vllm-none-hash"
LOW_64 = 2**64 - 1
Extra = tuple[object, ...]


def cbor(value: object) -> bytes:
    """Canonical CBOR of None, numbers without fraction, text, bytes and rows of them."""
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        data = value.encode()
        return _head(3, len(data)) + data
    if isinstance(value, (tuple, list)):
        return _head(4, len(value)) + b"".join(map(cbor, value))
    raise TypeError(f"no CBOR form for {type(value).__name__}")


def _head(major: int, count: int) -> bytes:
    kind = major << 5
    if count < 24:
        return bytes((kind | count,))
    for size, code in ((1, 24), (2, 25), (4, 26), (8, 27)):
        if count < 1 << (8 * size):
            return bytes((kind | code,)) + count.to_bytes(size, "big")
    raise ValueError("number beyond 64 bits")


def none_hash(seed: str) -> bytes:
    """The parent of the first block."""
    return sha256(cbor(seed)).digest()


def block_keys(
    tokens: Sequence[int],
    block_size: int,
    *,
    parent: bytes,
    lora: Extra = (),
    salt: Extra = (),
) -> list[int]:
    """Keys of the full blocks; `lora` is mixed into every block, `salt` into the first only."""
    count = len(tokens) // block_size
    encoded = _encoded_blocks(tokens, block_size, count)
    opening = b"\x83\x58\x20"
    row = _head(4, block_size)
    tail = cbor(lora or None)
    keys = []
    for number, block in enumerate(encoded):
        extra = tail if number else cbor((*lora, *salt) or None)
        parent = sha256(opening + parent + row + block + extra).digest()
        keys.append(int.from_bytes(parent, "big"))
    return keys


def _encoded_blocks(tokens: Sequence[int], size: int, count: int) -> list[bytes]:
    """CBOR of each block's tokens without the row's head.

    Ids of 16 to 32 bits all take five bytes, so a whole prompt is interleaved at once: 7,200
    tokens are then hashed in 1.0 ms, against 6.5 ms where each id is written by itself.
    """
    used = tokens[: count * size]
    if used and min(used) > 0xFFFF and max(used) <= 0xFFFFFFFF:
        packed = struct.pack(f">{len(used)}I", *used)
        wide = bytearray(b"\x1a" * (5 * len(used)))
        for byte in range(4):
            wide[byte + 1 :: 5] = packed[byte::4]
        step = 5 * size
        return [bytes(wide[at : at + step]) for at in range(0, len(wide), step)]
    return [b"".join(map(cbor, used[at : at + size])) for at in range(0, len(used), size)]
