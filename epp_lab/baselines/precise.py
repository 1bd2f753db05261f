"""Policies that know the engines' caches from their events; here they are looked at directly.

That is the best case of an event stream: nothing is late or lost. What waits in front of an engine
is not in its cache yet, so it is not seen, as with events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from epp.datastore.prefix import PrefixIndex
from epp.domain.decision import Decision
from epp.domain.pool import Column, Floats, PoolView, Scores
from epp.domain.request import Key, Request
from epp.domain.response import Ending
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL, uncached_tokens
from epp.points import Tools
from epp.tokens.blocks import block_keys, chain_seed
from epp_lab.facts import CACHES

EXPECT_TOKENS = 64
EXPECTED_SECONDS = 2.0
MOST_EXPECTED = 100_000
DYNAMO_BLOCK = 64
"""Tokens in the blocks that active sequences are counted in."""


class ExactPrefixProducer:
    """lab-exact-prefix-producer: what each engine's cache holds of the prompt, in full blocks."""

    type: ClassVar[str] = "lab-exact-prefix-producer"
    produces: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS, PREFIX_TOTAL)

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        caches = request.facts.get(CACHES)
        if caches is None:
            raise ValueError("lab-exact-prefix-producer works in the lab alone")
        total = np.full(len(pool), request.prompt_tokens, dtype=np.int64)
        return {PREFIX_TOKENS: caches(pool), PREFIX_TOTAL: total}


class DynamoCostScorer:
    """lab-dynamo-cost-scorer: prefill blocks, active and new, less overlap, and decode blocks.

    cost = max(A + P - O, 0) + B + N in blocks, where A are uncached prompt blocks sent there whose
    first token is not seen, P the prompt's, O those of it in the cache, B the distinct prompt
    blocks of open requests and N those of this one that no open request there holds. The smallest
    wins (temperature 0). Answers are not counted, as by default.
    """

    type: ClassVar[str] = "lab-dynamo-cost-scorer"
    consumes: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS,)

    def __init__(self) -> None:
        self._key: Key[list[int]] = Key("active blocks")
        self._active: dict[str, Counter[int]] = {}
        self._sent: dict[str, tuple[str, list[int]]] = {}

    def score(self, request: Request, pool: PoolView) -> Scores:
        prefill = (pool.inflight_tokens + uncached_tokens(request, pool)) / DYNAMO_BLOCK
        return best_first(prefill + self._decode_blocks(request, pool))

    def _decode_blocks(self, request: Request, pool: PoolView) -> Floats:
        blocks = self._blocks(request)
        held = [self._active.get(endpoint.key, Counter()) for endpoint in pool.endpoints]
        return np.array([len(a) + sum(key not in a for key in blocks) for a in held], dtype=float)

    def _blocks(self, request: Request) -> list[int]:
        known = request.facts.get(self._key)
        if known is None:
            seed = chain_seed(request.target_model, request.cache_salt)
            known = block_keys(request.prompts[0], DYNAMO_BLOCK, seed)
            request.facts.put(self._key, known)
        return known

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        where, blocks = decision.endpoint.key, self._blocks(request)
        self._active.setdefault(where, Counter()).update(blocks)
        self._sent[request.id] = where, blocks

    def ended(self, request: Request, decision: Decision, ending: Ending) -> None:
        where, blocks = self._sent.pop(request.id)
        active = self._active[where]
        for key in blocks:
            if active[key] == 1:
                del active[key]
            else:
                active[key] -= 1


class LMetricScorer:
    """lab-lmetric-scorer: prompt tokens to compute before the answer, times requests there."""

    type: ClassVar[str] = "lab-lmetric-scorer"
    consumes: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS,)

    def score(self, request: Request, pool: PoolView) -> Scores:
        prefill = pool.inflight_tokens + uncached_tokens(request, pool)
        return best_first(prefill * (pool.inflight_requests + 1.0))


def best_first(cost: Floats) -> Scores:
    """1 for the least cost, less for others, in the order of their costs."""
    scores: Scores = (1.0 + cost.min()) / (1.0 + cost)
    return scores


class EventsPrefixProducer(ExactPrefixProducer):
    """lab-events-prefix-producer: the same, or what our picks of the last two seconds lead to.

    So precise-prefix-cache-producer has it where an engine's events arrive.
    """

    type: ClassVar[str] = "lab-events-prefix-producer"

    def __init__(self, tools: Tools) -> None:
        self._clock = tools.clock
        self._picks = PrefixIndex()
        self._key: Key[list[int]] = Key("blocks expected")

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        columns = dict(super().columns(request, pool))
        since = self._clock() - EXPECTED_SECONDS
        keys = self._keys(request)
        blocks = [self._picks.used_since(int(slot), keys, since) for slot in pool.slots]
        expected = np.array(blocks, dtype=np.int64) * EXPECT_TOKENS
        columns[PREFIX_TOKENS] = np.maximum(columns[PREFIX_TOKENS], expected)
        return columns

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        """The endpoint will soon hold the prompt."""
        slot = int(pool.slots[pool.row(decision.endpoint)])
        self._picks.insert(slot, self._keys(request), MOST_EXPECTED, self._clock())

    def _keys(self, request: Request) -> list[int]:
        keys = request.facts.get(self._key)
        if keys is None:
            seed = chain_seed(request.target_model)
            keys = [key for p in request.prompts for key in block_keys(p, EXPECT_TOKENS, seed)]
            request.facts.put(self._key, keys)
        return keys
