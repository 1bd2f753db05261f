"""The Go picker's guess of caches from its own picks, with what is wrong in it.

* A block is at least 64 tokens while the capacity is the engine's number of blocks of 16: each
  endpoint is thought to hold four times what it does.
* A use renews blocks from the first to the last, so the first is evicted first and with it the
  whole prefix.
* The walk ends at the first block that nobody has; an endpoint's hits on the way are counted
  whether they are contiguous or not.
* The last partial block has a key too.
* A pick is learned a moment later, so that equal prompts at the same time miss each other.
* The capacity is taken once, when the endpoint is first used.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.decision import Decision
from epp.domain.pool import Column, PoolView
from epp.domain.request import Key, Request
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL
from epp.points import Tools
from epp.tokens.blocks import block_keys, chain_seed

LEAST_BLOCK: Final = 64
PRODUCTION_BLOCK: Final = 16
"""Tokens in an engine's block where these defects were seen; the lab's engines may have larger."""
UPDATE_SECONDS: Final = 0.001
MOST_TOKENS: Final = 131_072
UNKNOWN_CAPACITY: Final = 31_250


class GoApproxPrefixProducer:
    """lab-go-approx-prefix-producer: what each endpoint is believed to have of a prompt."""

    type: ClassVar[str] = "lab-go-approx-prefix-producer"
    produces: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS, PREFIX_TOTAL)

    class Params(PluginParams):
        update_seconds: float = Field(UPDATE_SECONDS, ge=0.0)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._clock = tools.clock
        self._delay = params.update_seconds
        self._key: Key[list[int]] = Key("hashes")
        self._holders: dict[int, set[int]] = {}
        self._used: dict[int, OrderedDict[int, None]] = {}
        self._capacity: dict[int, int] = {}
        self._later: deque[tuple[float, int, list[int]]] = deque()

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        self._catch_up()
        hashes = self._hashes(request)
        counts = self._matches(hashes)
        found = [counts.get(slot, 0) * LEAST_BLOCK for slot in pool.slots.tolist()]
        return {
            PREFIX_TOKENS: np.array(found, dtype=np.int64),
            PREFIX_TOTAL: np.full(len(pool), len(hashes) * LEAST_BLOCK, dtype=np.int64),
        }

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        row = pool.endpoints.index(decision.endpoint)
        slot = int(pool.slots[row])
        if slot not in self._capacity:
            tokens = float(pool["kv_blocks"][row]) * float(pool["block_size"][row])
            self._capacity[slot] = int(tokens) // PRODUCTION_BLOCK or UNKNOWN_CAPACITY
        self._later.append((self._clock() + self._delay, slot, self._hashes(request)))

    def _hashes(self, request: Request) -> list[int]:
        known = request.facts.get(self._key)
        if known is None:
            prompt, seed = request.prompts[0], chain_seed(request.target_model, request.cache_salt)
            known = block_keys(prompt, LEAST_BLOCK, seed, MOST_TOKENS)
            if prompt.tokens % LEAST_BLOCK and prompt.tokens < MOST_TOKENS:
                known.append(hash((known[-1] if known else seed, prompt.tokens)))
            request.facts.put(self._key, known)
        return known

    def _matches(self, hashes: list[int]) -> dict[int, int]:
        counts: dict[int, int] = {}
        for key in hashes:
            holders = self._holders.get(key)
            if not holders:
                break
            for slot in holders:
                counts[slot] = counts.get(slot, 0) + 1
        return counts

    def _catch_up(self) -> None:
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            _, slot, hashes = self._later.popleft()
            self._learn(slot, hashes)

    def _learn(self, slot: int, hashes: list[int]) -> None:
        used = self._used.setdefault(slot, OrderedDict())
        for key in hashes:
            if key in used:
                used.move_to_end(key)
                continue
            used[key] = None
            self._holders.setdefault(key, set()).add(slot)
            if len(used) > self._capacity[slot]:
                self._forget(slot, used)

    def _forget(self, slot: int, used: OrderedDict[int, None]) -> None:
        oldest, _ = used.popitem(last=False)
        holders = self._holders[oldest]
        holders.discard(slot)
        if not holders:
            del self._holders[oldest]
