"""A request's prompts as the engine will see them: token ids, and where images and such stand."""

from array import array
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from epp.domain.request import Item, Key, Prompt
from epp.tokens.blocks import BYTES_PER_TOKEN, chained, mixed, pack

TokenIds: TypeAlias = Sequence[int]


class Tokenized(msgspec.Struct, frozen=True):
    """Prompts in tokens, `items` beside each; `by` says who made them: request, render, ..."""

    prompts: tuple[TokenIds, ...]
    items: tuple[tuple[Item, ...], ...] = ()
    by: str = ""
    more: int = 0
    """Tokens that are not among these, estimated: of the end where a beginning is all that is
    known, and of images where the engine counted text alone."""

    @property
    def tokens(self) -> int:
        """All prompts together, as far as they are known."""
        return sum(map(len, self.prompts))


TOKENIZED: Final[Key[Tokenized]] = Key("prompts in tokens")
"""Left by a token producer for those who match token by token."""


def given(prompts: Sequence[Prompt]) -> Tokenized | None:
    """The prompts a client sent in tokens; None if any of them is text."""
    ids = tuple(prompt.token_ids for prompt in prompts if prompt.token_ids is not None)
    if not ids or len(ids) != len(prompts):
        return None
    items = tuple(prompt.items for prompt in prompts)
    return Tokenized(ids, items if any(items) else (), by="request")


def exact_keys(
    token_ids: TokenIds, block_tokens: int, seed: int, items: Sequence[Item], most: int
) -> list[int]:
    """Keys of the full blocks among the first `most` tokens, as the engine's events make them."""
    packed = pack(token_ids)[: most * BYTES_PER_TOKEN]
    if items:
        return mixed(packed, block_tokens, seed, items)
    return chained(packed, block_tokens * BYTES_PER_TOKEN, seed)


def ids_of(values: Sequence[int]) -> TokenIds:
    """As an array that hashing need not copy. Raises OverflowError beyond 32 bits."""
    return array("I", values)
