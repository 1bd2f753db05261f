"""Images, video and audio of a request: which they are, and how many tokens each stands for."""

import re
from collections.abc import Iterator
from typing import Final

from xxhash import xxh3_64_intdigest

from epp.domain.request import Item, Key, Request
from epp.tokens.tokenized import TOKENIZED

TYPICAL_TOKENS: Final = 225
"""Of a picture of 640 x 360, by 1,024 pixels to a token, where nobody has said the size."""
MOST_MEDIA: Final = 256
"""Of one request that are told apart."""

_MARKS: Final = (b"_url", b"_audio", b'"source"')
# Parts of OpenAI's messages and responses, and Anthropic's sources: a key, then a text, or an
# object with a text under `url` or `data`.
_PART: Final = re.compile(
    rb'"(?:image_url|video_url|audio_url|input_audio|source)"\s*:\s*'
    rb'(?:\{[^{}]{0,256}?"(?:url|data)"\s*:\s*)?"(?P<what>[^"\\]*(?:\\.[^"\\]*)*)"'
)

MEDIA: Final[Key[dict[int, int]]] = Key("media of the request")


def media_of(request: Request) -> dict[int, int]:
    """Digest of each thing to its tokens: by the engine's own hashes where these are known, else
    by what the messages say of them."""
    known = request.facts.get(MEDIA)
    if known is None:
        items = list(_items(request))
        if items:
            known = {xxh3_64_intdigest(i.hash.encode()): max(i.length, 1) for i in items}
        else:
            known = dict.fromkeys(_digests(request), TYPICAL_TOKENS)
        request.facts.put(MEDIA, known)
    return known


def _items(request: Request) -> Iterator[Item]:
    told = request.facts.get(TOKENIZED)
    if told is not None:
        for beside in told.items:
            yield from beside[:MOST_MEDIA]
        return
    for prompt in request.prompts:
        yield from prompt.items[:MOST_MEDIA]


def _digests(request: Request) -> list[int]:
    found: list[int] = []
    for prompt in request.prompts:
        if not any(mark in prompt.text for mark in _MARKS):
            continue
        for part in _PART.finditer(prompt.text):
            found.append(xxh3_64_intdigest(part["what"]))
            if len(found) == MOST_MEDIA:
                return found
    return found
