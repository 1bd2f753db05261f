"""Images, video and audio of a request: which they are, and how many tokens each stands for."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from xxhash import xxh3_64_intdigest

from epp.domain.request import Item, Key, Request
from epp.tokens.counting import media_tokens
from epp.tokens.tokenized import TOKENIZED

MOST_MEDIA: Final = 256
"""Of one request that are told apart."""

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
            said = islice(media_tokens(request), MOST_MEDIA)
            known = {medium.digest: tokens for medium, tokens in said}
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
