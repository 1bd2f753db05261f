"""How many tokens a request's prompts are, once everybody has said what they know.

What the parser counted is bytes / 4. Where somebody told the engine's own tokens, their number
takes its place, and what is counted in bytes is read in the same unit: see `tokens_per_counted`.
Images, video and audio are estimated until then.
"""

import math
from typing import Final

import msgspec

from epp.domain.headers import VIDEO_FPS, VIDEO_RESOLUTION, VIDEO_SECONDS, Headers
from epp.domain.media import BY_DEFAULT, Clip, Estimate, Medium
from epp.domain.request import Key, Request
from epp.tokens.tokenized import TOKENIZED

PER_COUNTED: Final[Key[float]] = Key("tokens for each that was counted in bytes")
ESTIMATE: Final[Key[Estimate]] = Key("how images, video and audio are counted")
"""Left by a token producer that is told to count otherwise than by default."""


def counted(request: Request) -> Request:
    """`request` with its `prompt_tokens` as they are known now; itself where nothing is new."""
    told = request.facts.get(TOKENIZED)
    if told is None and not _has_media(request):
        return request
    tokens = _estimated(request) if told is None else told.tokens + told.more
    if tokens == request.prompt_tokens:
        return request
    request.facts.put(PER_COUNTED, tokens / max(request.prompt_tokens, 1))
    return msgspec.structs.replace(request, prompt_tokens=tokens)


def tokens_per_counted(request: Request) -> float | None:
    """What a block of bytes / 4 is worth in `prompt_tokens`; None where it is worth itself."""
    return request.facts.get(PER_COUNTED)


def media_tokens(request: Request) -> list[tuple[Medium, int]]:
    """Each image and such in the request's text, and the tokens it is taken for."""
    estimate = request.facts.get(ESTIMATE) or BY_DEFAULT
    clip = clip_of(request.headers)
    return [(m, estimate.tokens(m, clip)) for prompt in request.prompts for m in prompt.media]


def clip_of(headers: Headers) -> Clip:
    """What a client says of its video; what is no number above 0 says nothing."""
    width, _, height = headers.get(VIDEO_RESOLUTION, "").lower().partition("x")
    return Clip(
        width=int(_positive(width)),
        height=int(_positive(height)),
        seconds=_positive(headers.get(VIDEO_SECONDS, "")),
        fps=_positive(headers.get(VIDEO_FPS, "")),
    )


def _has_media(request: Request) -> bool:
    # Every request comes by here: `any` over a generator takes four times as long.
    for prompt in request.prompts:  # noqa: SIM110
        if prompt.media:
            return True
    return False


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 < value < math.inf else 0.0


def _estimated(request: Request) -> int:
    """The text without its stand-ins, and what those stand for."""
    text = sum(prompt.tokens for prompt in request.prompts)
    return text + sum(tokens - medium.tokens for medium, tokens in media_tokens(request))
