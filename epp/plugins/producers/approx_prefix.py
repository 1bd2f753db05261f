"""The producer of prefix matches from our own picks."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.datastore.prefix import DEFAULT_MAX_BLOCKS, FEW, PrefixIndex, among
from epp.domain.decision import Decision
from epp.domain.pool import Column, Ints, PoolView
from epp.domain.request import Key, Request
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL, in_prompt_tokens, named
from epp.points import Tools
from epp.tokens.blocks import block_keys, chain_seed


class Chains(NamedTuple):
    """A request's block keys, one chain for each prompt."""

    block_tokens: int
    chains: tuple[list[int], ...]

    @property
    def total(self) -> int:
        """Prompt tokens in full blocks."""
        return self.block_tokens * sum(len(chain) for chain in self.chains)


class ApproxPrefixCacheProducer:
    """approx-prefix-cache-producer: how much of a prompt each endpoint has, as our picks tell.

    Formula: prompts are cut into full blocks, each named by a hash of all up to it; an endpoint
    has the blocks of the prompts sent there, as far as its KV memory goes, the longest unused
    leaves leaving first. prefix_tokens = tokens of the leading blocks it has, without a gap.
    Where a token producer has told the tokens of the prompt, both columns are in these.
    A block is the least multiple of the engine's block size that has minBlockTokens.
    Parameters: autoTune (take the largest block size the pool reports, default true),
    blockSizeTokens (else, default 16), minBlockTokens (default 64), maxPrefixTokensToMatch (of each
    prompt, default 131072), maxPrefixBlocksToMatch (deprecated, default none), lruCapacityPerServer
    (blocks of blockSizeTokens, where an endpoint does not report its memory, default 31250),
    maxBlocks (held for all endpoints together, default 1000000, about 250 MB).
    Reads: slots, block_size, kv_blocks. Writes: prefix_tokens, prefix_total, and both under its
    own name.
    Differs from the Go picker: capacity is counted in tokens, so coarse blocks do not make an
    endpoint look four times as large, and follows the engine's report instead of freezing at first
    use; the beginning of a prompt outlives its end; matches are contiguous for each endpoint; what
    is picked is known to the very next request; batch prompts are matched one by one; a partial
    last block never matches, as in the engines; every profile's pick is learned, whatever its name.
    Example:
        - type: approx-prefix-cache-producer
          parameters: {autoTune: false, blockSizeTokens: 64}
    """

    type: ClassVar[str] = "approx-prefix-cache-producer"
    produces: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS, PREFIX_TOTAL)

    class Params(PluginParams):
        auto_tune: bool = True
        block_size_tokens: int = Field(16, ge=1, le=65536)
        min_block_tokens: int = Field(64, ge=1, le=65536)
        max_prefix_tokens_to_match: int = Field(131_072, ge=1)
        max_prefix_blocks_to_match: int | None = Field(None, ge=1)
        lru_capacity_per_server: int = Field(31_250, ge=1)
        max_blocks: int = Field(DEFAULT_MAX_BLOCKS, ge=1)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._params = params
        self._own_tokens = named(PREFIX_TOKENS, tools.name)
        self._own_total = named(PREFIX_TOTAL, tools.name)
        self._key: Key[Chains] = Key(f"block keys of {tools.name}")
        self._reported: Column | None = None
        self._block_tokens = 0
        most = params.max_blocks
        self.index = tools.state.keep("index", lambda: PrefixIndex(most), shape=f"maxBlocks={most}")

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        found = self._chains(request, self.block_tokens(pool))
        total = np.empty(len(pool), dtype=np.int64)
        total.fill(found.total)
        cached, total = in_prompt_tokens(request, self._matched(found, pool.slots), total)
        return {
            PREFIX_TOKENS: cached,
            PREFIX_TOTAL: total,
            self._own_tokens: cached,
            self._own_total: total,
        }

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        """The endpoints that were picked will hold the prompt."""
        found = self._chains(request, self.block_tokens(pool))
        for row in picked_rows(decision, pool):
            capacity = self._capacity(pool, row) // found.block_tokens
            for chain in found.chains:
                self.index.insert(int(pool.slots[row]), chain, capacity)

    def held_blocks(self, slot: int) -> int:
        """Blocks the endpoint in `slot` is believed to hold; for the debug page."""
        return self.index.held(slot)

    def block_tokens(self, pool: PoolView) -> int:
        """Tokens in one block of the index for this pool."""
        reported = pool.get("block_size") if self._params.auto_tune else None
        # Views share this column from one scrape to the next: 0.2 us instead of 2.
        if reported is None or reported is not self._reported:
            self._reported, self._block_tokens = reported, self._coarsened(reported)
        return self._block_tokens

    def _coarsened(self, reported: Column | None) -> int:
        engine = self._params.block_size_tokens
        if reported is not None and (largest := reported.max(initial=0)) > 0:
            engine = int(largest)
        return engine * -(-self._params.min_block_tokens // engine)

    def _chains(self, request: Request, block_tokens: int) -> Chains:
        """The request's keys, computed once and kept with it."""
        known = request.facts.get(self._key)
        if known is None or known.block_tokens != block_tokens:
            seed = chain_seed(request.target_model, request.cache_salt)
            most = self._most_tokens(block_tokens)
            chains = tuple(block_keys(p, block_tokens, seed, most) for p in request.prompts)
            known = Chains(block_tokens, chains)
            request.facts.put(self._key, known)
        return known

    def _most_tokens(self, block_tokens: int) -> int:
        blocks = self._params.max_prefix_blocks_to_match
        most = self._params.max_prefix_tokens_to_match
        return most if blocks is None else min(most, blocks * block_tokens)

    def _matched(self, found: Chains, slots: Ints) -> Ints:
        """Tokens of the leading blocks that each slot holds, all prompts together."""
        if len(slots) <= FEW:
            return self._matched_by_row(found, slots.tolist())
        cached = np.zeros(len(slots), dtype=np.int64)
        for chain in found.chains:
            for run in self.index.match(chain):
                cached[among(run.holders, slots)] += run.blocks * found.block_tokens
        return cached

    def _matched_by_row(self, found: Chains, slots: Sequence[int]) -> Ints:
        cached = [0] * len(slots)
        for chain in found.chains:
            for run in self.index.match(chain):
                tokens = run.blocks * found.block_tokens
                for row, slot in enumerate(slots):
                    if run.holders >> slot & 1:
                        cached[row] += tokens
        return np.array(cached, dtype=np.int64)

    def _capacity(self, pool: PoolView, row: int) -> int:
        """Tokens the endpoint in `row` can hold."""
        blocks, size = pool.get("kv_blocks"), pool.get("block_size")
        if blocks is not None and size is not None and blocks[row] > 0 and size[row] > 0:
            return int(blocks[row]) * int(size[row])
        return self._params.lru_capacity_per_server * self._params.block_size_tokens


def picked_rows(decision: Decision, pool: PoolView) -> list[int]:
    """Rows of the first endpoint of every profile that picked one."""
    results = (decision.primary, *decision.others)
    firsts = [result.picked[0] for result in results if result.picked]
    return [row for row in map(pool.row, firsts) if row is not None]
