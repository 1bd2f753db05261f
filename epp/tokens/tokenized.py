"""A request's prompts as the engine will see them: token ids, and where images and such stand."""

from array import array
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from epp.domain.request import Key, Prompt
from epp.tokens.blocks import BYTES_PER_TOKEN, chained, folded, pack

TokenIds: TypeAlias = Sequence[int]


class Item(msgspec.Struct, frozen=True):
    """An image or such: its hash at the engine, and the tokens it stands for."""

    hash: str
    start: int
    length: int


class Tokenized(msgspec.Struct, frozen=True):
    """Prompts in tokens, `items` beside each; `by` says who made them: request, render, ..."""

    prompts: tuple[TokenIds, ...]
    items: tuple[tuple[Item, ...], ...] = ()
    by: str = ""

    @property
    def tokens(self) -> int:
        """All prompts together."""
        return sum(map(len, self.prompts))


TOKENIZED: Final[Key[Tokenized]] = Key("prompts in tokens")
"""Left by a token producer for those who match token by token."""


def given(prompts: Sequence[Prompt]) -> Tokenized | None:
    """The prompts a client sent in tokens; None if any of them is text."""
    ids = tuple(prompt.token_ids for prompt in prompts if prompt.token_ids is not None)
    return Tokenized(ids, by="request") if ids and len(ids) == len(prompts) else None


def exact_keys(
    token_ids: TokenIds, block_tokens: int, seed: int, items: Sequence[Item], most: int
) -> list[int]:
    """Keys of the full blocks among the first `most` tokens, as the engine's events make them."""
    packed = pack(token_ids)[: most * BYTES_PER_TOKEN]
    size = block_tokens * BYTES_PER_TOKEN
    if not items:
        return chained(packed, size, seed)
    keys: list[int] = []
    key = seed
    for number, start in enumerate(range(0, len(packed) - size + 1, size)):
        (key,) = chained(packed[start : start + size], size, key)
        key = folded(key, overlapping(items, number * block_tokens, block_tokens))
        keys.append(key)
    return keys


def overlapping(items: Sequence[Item], start: int, length: int) -> list[str]:
    """Hashes of the items that reach into these tokens, in the order they stand."""
    end = start + length
    return [i.hash for i in items if i.start < end and i.start + i.length > start]


def ids_of(values: Sequence[int]) -> TokenIds:
    """As an array that hashing need not copy. Raises OverflowError beyond 32 bits."""
    return array("I", values)
