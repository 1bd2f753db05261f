"""The scorer that spreads cold requests."""

from collections import OrderedDict
from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.decision import Decision
from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.columns import PREFIX_TOKENS
from epp.points import Tools


class LastCold:
    """Slots in the order in which each last got a cold request, the longest ago first; bounded."""

    def __init__(self) -> None:
        self._order: OrderedDict[int, None] = OrderedDict()

    def note(self, slot: int, most: int) -> None:
        """`slot` got a cold request now."""
        self._order[slot] = None
        self._order.move_to_end(slot)
        while len(self._order) > most:
            self._order.popitem(last=False)

    def ranks(self) -> dict[int, int]:
        """Slot to its place in the order, from 0; slots that never had one are not there."""
        return {slot: rank for rank, slot in enumerate(self._order)}

    def on_removed(self, slot: int) -> None:
        """The endpoint has gone; its slot may be given to another."""
        self._order.pop(slot, None)


class NoHitLruScorer:
    """no-hit-lru-scorer: gives cold requests to the endpoint that has had none for longest.

    Formula: 0.5 for all if any endpoint has some of the prompt; else 1 - i / (n - 1), i counting
    from those that never had a cold request, then by how long ago they had one.
    Parameters: lruSize (endpoints remembered, default 1024).
    Reads: prefix_tokens, slots.
    Example:
        - type: no-hit-lru-scorer
    """

    type: ClassVar[str] = "no-hit-lru-scorer"
    consumes: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS,)

    class Params(PluginParams):
        lru_size: int = Field(1024, ge=1)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._most = params.lru_size
        self._last = tools.state.keep("last cold", LastCold)

    def score(self, request: Request, pool: PoolView) -> Scores:
        count = len(pool)
        if not _is_cold(pool):
            return np.full(count, 0.5)
        ranks = self._last.ranks()
        order = np.argsort([ranks.get(slot, -1) for slot in pool.slots.tolist()], kind="stable")
        scores = np.ones(count)
        scores[order] = 1.0 - np.arange(count) / max(count - 1, 1)
        return scores

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        row = pool.row(decision.endpoint)
        if row is not None and _is_cold(pool):
            self._last.note(int(pool.slots[row]), self._most)


def _is_cold(pool: PoolView) -> bool:
    cached = pool.get(PREFIX_TOKENS)
    return cached is None or not cached.any()
