"""The producer of encoded images: which endpoints were sent them before."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Final

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.decision import Decision
from epp.domain.pool import Column, PoolView
from epp.domain.request import Request
from epp.plugins.columns import MM_CACHED, MM_TOTAL
from epp.plugins.media import media_of
from epp.plugins.producers.approx_prefix import picked_rows
from epp.points import Tools

MEGABYTES_EACH: Final = 2
"""What an encoded image is taken for: the Go picker's 4,096 MB are 2,048 of them."""


class Sent:
    """Digests of what each slot was sent, the longest unused forgotten first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_slot: dict[int, dict[int, None]] = {}

    def add(self, slot: int, digests: Iterable[int]) -> None:
        """These were sent to `slot` now."""
        known = self._by_slot.setdefault(slot, {})
        for digest in digests:
            known.pop(digest, None)
            known[digest] = None
        while len(known) > self._most:
            del known[next(iter(known))]

    def weigh(self, slot: int, media: Mapping[int, int]) -> int:
        """The tokens of those of `media` that `slot` was sent."""
        known = self._by_slot.get(slot)
        return sum(tokens for digest, tokens in media.items() if digest in known) if known else 0

    def on_removed(self, slot: int) -> None:
        """The endpoint has gone; its slot may be given to another."""
        self._by_slot.pop(slot, None)


class MmEmbeddingsCacheProducer:
    """mm-embeddings-cache-producer: how much of a request's images each endpoint has encoded.

    Formula: mm_cached = tokens of the request's images, video and audio that were in a request sent
    to the endpoint before, as far as its cache goes, the longest unused forgotten first; mm_total =
    tokens of all of them. They are told apart by the engine's hashes where a token producer or the
    client gives them, else by what the messages say (URL or data), and count what token-producer
    takes them for.
    Parameters: cacheSizeInMBPerServer (default 4096, of 2 MB each).
    Reads: prompts, slots. Writes: mm_cached, mm_total.
    Example:
        - type: mm-embeddings-cache-producer
          parameters: {cacheSizeInMBPerServer: 8192}
    """

    type: ClassVar[str] = "mm-embeddings-cache-producer"
    produces: ClassVar[tuple[str, ...]] = (MM_CACHED, MM_TOTAL)

    class Params(PluginParams):
        cache_size_in_mb_per_server: int = Field(
            4096, ge=MEGABYTES_EACH, le=1 << 24, alias="cacheSizeInMBPerServer"
        )

    def __init__(self, params: Params, tools: Tools) -> None:
        most = params.cache_size_in_mb_per_server // MEGABYTES_EACH
        self._sent = tools.state.keep("sent", lambda: Sent(most), shape=f"most={most}")

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        media = media_of(request)
        total = np.full(len(pool), sum(media.values()), dtype=np.int64)
        if not media:
            return {MM_CACHED: total, MM_TOTAL: total}
        held = [self._sent.weigh(slot, media) for slot in pool.slots.tolist()]
        return {MM_CACHED: np.array(held, dtype=np.int64), MM_TOTAL: total}

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        """The endpoints that were picked will have encoded it."""
        if media := media_of(request):
            for row in picked_rows(decision, pool):
                self._sent.add(int(pool.slots[row]), media)
