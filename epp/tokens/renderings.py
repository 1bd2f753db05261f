"""Renderings that are remembered, and found again by the beginning of a conversation.

The text of one turn is the beginning of the next turn's. So where the text itself is not known, the
longest known beginning of it is: its tokens are those of the whole but for the end.
"""

from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from epp.tokens.blocks import chain_seed, chained
from epp.tokens.tokenized import Tokenized

PIECE: Final = 256
"""Bytes: beginnings are told apart in steps of so many."""
MOST_TOKENS: Final = 4_000_000
"""Tokens of all renderings together, four bytes each."""


class Found(NamedTuple):
    """A rendering of the first `share` (0..1) of a text, all but its last `rest` bytes."""

    tokens: Tokenized
    share: float
    rest: int = 0


class Renderings:
    """The last used ones, as far as the room for `most_tokens` goes."""

    def __init__(self, most_tokens: int = MOST_TOKENS) -> None:
        self._most = most_tokens
        self._by_text: dict[int, tuple[Tokenized, int]] = {}
        self._by_end: dict[int, int] = {}
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._by_text)

    def find(self, text: bytes, model: str, kind: str) -> Found | None:
        """The rendering of `text`, else of its longest known beginning, else None."""
        seed = chain_seed(model, adapter=kind)
        whole = xxh3_64_intdigest(text, seed)
        if whole in self._by_text:
            return Found(self._use(whole), 1.0)
        ends = chained(text, PIECE, seed)
        for number in range(len(ends) - 1, -1, -1):
            if (known := self._by_end.get(ends[number])) is not None:
                share = (number + 1) / (len(ends) + 1)
                return Found(self._use(known), share, len(text) - (number + 1) * PIECE)
        return None

    def put(self, text: bytes, model: str, kind: str, tokens: Tokenized) -> None:
        """Remember a rendering; the longest unused go where there is no room."""
        if tokens.tokens > self._most:
            return
        seed = chain_seed(model, adapter=kind)
        whole = xxh3_64_intdigest(text, seed)
        ends = chained(text, PIECE, seed)
        self._drop(whole)
        self._by_text[whole] = tokens, ends[-1] if ends else whole
        self.tokens += tokens.tokens
        if ends:
            self._by_end[ends[-1]] = whole
        while self.tokens > self._most:
            self._drop(next(iter(self._by_text)))

    def _use(self, whole: int) -> Tokenized:
        known = self._by_text.pop(whole)
        self._by_text[whole] = known
        return known[0]

    def _drop(self, whole: int) -> None:
        known = self._by_text.pop(whole, None)
        if known is None:
            return
        tokens, end = known
        self.tokens -= tokens.tokens
        if self._by_end.get(end) == whole:
            del self._by_end[end]
