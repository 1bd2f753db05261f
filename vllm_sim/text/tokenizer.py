"""A tokenizer without a vocabulary: four bytes of UTF-8 are one token.

The id is the four bytes read as a big-endian number, so ids are stable everywhere, fit 32 bits and
can be turned back into text. A last group shorter than four bytes keeps its value; NUL bytes are
lost. Two texts that share their first 4*n bytes share their first n tokens.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BYTES_PER_TOKEN = 4
MAX_TOKEN = 2**32 - 1


def encode(text: str) -> list[int]:
    """Token ids of the text; empty for an empty one."""
    data = text.encode("utf-8", "replace")
    groups, rest = divmod(len(data), BYTES_PER_TOKEN)
    tokens = list(struct.unpack_from(f">{groups}I", data))
    if rest:
        tokens.append(int.from_bytes(data[-rest:], "big"))
    return tokens


def token_bytes(token: int) -> bytes:
    """The bytes behind one id; ids beyond 32 bits keep their low ones."""
    return (token & MAX_TOKEN).to_bytes(BYTES_PER_TOKEN, "big").lstrip(b"\0")


def decode(tokens: Iterable[int]) -> str:
    """The text behind the ids; bytes that are no UTF-8 become the replacement character."""
    return b"".join(map(token_bytes, tokens)).decode("utf-8", "replace")


def pad(text: str) -> str:
    """The text with spaces up to the next token border."""
    return text + " " * (-len(text.encode("utf-8", "replace")) % BYTES_PER_TOKEN)
