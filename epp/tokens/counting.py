"""How many tokens a request's prompts are, once everybody has said what they know.

What the parser counted is bytes / 4. Where somebody told the engine's own tokens, their number
takes its place, and what is counted in bytes is read in the same unit: see `tokens_per_counted`.
"""

from typing import Final

import msgspec

from epp.domain.request import Key, Request
from epp.tokens.tokenized import TOKENIZED

PER_COUNTED: Final[Key[float]] = Key("tokens for each that was counted in bytes")


def counted(request: Request) -> Request:
    """`request` with its `prompt_tokens` as they are known now; itself where nothing is new."""
    told = request.facts.get(TOKENIZED)
    if told is None:
        return request
    tokens = told.tokens + told.more
    if tokens == request.prompt_tokens:
        return request
    request.facts.put(PER_COUNTED, tokens / max(request.prompt_tokens, 1))
    return msgspec.structs.replace(request, prompt_tokens=tokens)


def tokens_per_counted(request: Request) -> float | None:
    """What a block of bytes / 4 is worth in `prompt_tokens`; None where it is worth itself."""
    return request.facts.get(PER_COUNTED)
