"""The producer of prefix matches from the engines' own events, and the scorer that reads it."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, NamedTuple

import numpy as np

from epp.datastore.residency import Residency, every, thinned
from epp.domain.decision import Decision
from epp.domain.headers import REQUEST_ID
from epp.domain.pool import Column, Floats, Ints, PoolView, Scores
from epp.domain.request import Key, Request
from epp.domain.response import Usage
from epp.observe.compared import Compared
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL, in_prompt_tokens, matched_share, named
from epp.plugins.producers.approx_prefix import picked_rows
from epp.plugins.producers.precise_params import PreciseParams
from epp.points import Tools
from epp.tokens.blocks import block_keys, cache_seed, own_block
from epp.tokens.tokenized import TOKENIZED, Tokenized, exact_keys, given

MOST_COMPARED: Final = 1000


class Chains(NamedTuple):
    """A request's keys in blocks of `size` tokens, one chain for each prompt.

    `lengths` are the prompts' tokens; `by` says who told them. `exact` where they are the engine's
    own tokens, else bytes stand for them and only our own picks can match.
    """

    size: int
    chains: tuple[list[int], ...]
    lengths: tuple[int, ...]
    exact: bool
    by: str

    @property
    def total(self) -> int:
        """Prompt tokens in full blocks."""
        return self.size * sum(len(chain) for chain in self.chains)


class Prediction(NamedTuple):
    """Prompt tokens the picked endpoint was believed to have; whether its events all arrived."""

    cached: int
    live: bool


class PrecisePrefixCacheProducer:
    """precise-prefix-cache-producer: how much of a prompt each endpoint has, as its engine says.

    Formula: engines publish which blocks they store and remove; prefix_tokens = tokens of the
    leading blocks an endpoint holds, those outside of GPU memory times their weight, and never the
    prompt's last token, which is always computed. What was picked within speculativeTTL counts as
    held already. Where an endpoint's events do not arrive, and for prompts whose tokens are not
    known, our own picks tell, as with approx-prefix-cache-producer.
    Parameters: tokenProcessorConfig (blockSizeTokens: until an engine has said its own, default 16;
    hashSeed, hashAlgorithm: accepted, nothing has to agree), indexerConfig (kvBlockIndexConfig.
    inMemoryConfig.size: blocks of all endpoints together, default 1000000, about 250 MB;
    kvCacheBackendConfigs: weights by medium, default gpu 1, others 0.8), kvEventsConfig
    (zmqEndpoint: an address to listen on for engines that dial; discoverPods: dial every endpoint,
    default unless zmqEndpoint is set; podDiscoveryConfig.socketPort, default 5557 for rank 0;
    replaySocketPort, default none; topicFilter, default everything when dialling and kv@ when
    listening; engineType; concurrency, accepted), speculativeIndexing (default true),
    speculativeTTL (default 2s), maxPrefixTokensToMatch (of each prompt, default 131072),
    snapshotFile (where knowledge is kept between two runs, default none).
    Reads: slots, block_size, kv_blocks. Writes: prefix_tokens, prefix_total, and both under its
    own name.
    Differs from the Go picker: gaps and restarts of engines are noticed, without replaySocketPort
    too (kv-events.md names the one that is not); blocks have the engine's size; an adapter's name
    does not keep its blocks from matching; memory is bounded, by a million blocks instead of a
    hundred; speculativeIndexing is on unless switched off; an endpoint is forgotten without a scan;
    podLabelSelector, podNamespace, podCacheSize and enableMetrics are accepted without effect;
    redisConfig, valkeyConfig, costAwareMemoryConfig, tokenizersPoolConfig and prefixStoreConfig are
    refused.
    Example:
        - type: precise-prefix-cache-producer
          parameters:
            kvEventsConfig: {podDiscoveryConfig: {socketPort: 5557, replaySocketPort: 5558}}
    """

    type: ClassVar[str] = "precise-prefix-cache-producer"
    point: ClassVar[str] = "extractor"
    """It follows endpoints by itself; configurations name it under a source that would tell it."""
    produces: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS, PREFIX_TOTAL)

    class Params(PreciseParams):
        pass

    def __init__(self, params: Params, tools: Tools) -> None:
        self.params = params
        self._name = tools.name
        self._clock = tools.clock
        self._own_tokens = named(PREFIX_TOKENS, tools.name)
        self._own_total = named(PREFIX_TOTAL, tools.name)
        self._keys: Key[dict[int, Chains]] = Key(f"exact block keys of {tools.name}")
        self._predicted: Key[Prediction] = Key(f"prediction of {tools.name}")
        self._slow_weight = params.slow_weight
        most = params.indexer_config.kv_block_index_config.in_memory_config.size
        wait = params.speculative_ttl if params.speculative_indexing else 0.0
        self.residency = tools.state.keep(
            "residency", lambda: Residency(most, wait), shape=f"size={most} ttl={wait}"
        )
        self.served: dict[str, int] = tools.state.keep("tokens served", dict)
        """Requests by who told their tokens: request, render, local, bytes, ..."""
        self.compared: deque[Compared] = tools.state.keep(
            "compared", lambda: deque(maxlen=MOST_COMPARED)
        )

    # -- moments ----------------------------------------------------------------------------------

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        sizes = self.residency.block_sizes or (self._default_size(pool),)
        found = self._chains(request, sizes[0])
        if len(sizes) == 1:
            cached = self._matched(found, pool.slots)
            total = np.full(len(pool), found.total, dtype=np.int64)
        else:
            cached, total = self._by_size(request, pool.slots, sizes)
        if not found.exact:
            cached, total = in_prompt_tokens(request, cached, total)
        self.served[found.by] = self.served.get(found.by, 0) + 1
        return {
            PREFIX_TOKENS: cached,
            PREFIX_TOTAL: total,
            self._own_tokens: cached,
            self._own_total: total,
        }

    def _by_size(self, request: Request, slots: Ints, sizes: Sequence[int]) -> tuple[Ints, Ints]:
        """Cached and all tokens where engines have unlike blocks.

        Endpoints that have not said count as those with the smallest.
        """
        cached = np.zeros(len(slots), dtype=np.int64)
        total = np.zeros(len(slots), dtype=np.int64)
        told = np.array([self.residency.block_tokens(slot) or sizes[0] for slot in slots.tolist()])
        for size in sizes:
            rows = told == size
            found = self._chains(request, size)
            cached[rows] = self._matched(found, slots[rows])
            total[rows] = found.total
        return cached, total

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        """The endpoints that were picked will hold the prompt."""
        now, rows = self._clock(), picked_rows(decision, pool)
        if rows and pool.endpoints[rows[0]] is decision.endpoint:
            self._note_prediction(request, pool, rows[0])
        for row in rows:
            slot = int(pool.slots[row])
            size = self.residency.block_tokens(slot) or self._default_size(pool)
            found = self._chains(request, size)
            capacity = self._capacity(pool, row) // (found.size * every(found.size))
            for chain in found.chains:
                self.residency.expect(slot, thinned(chain, found.size), capacity, now)

    def used(self, request: Request, decision: Decision, usage: Usage) -> None:
        """Keep what was predicted beside what the engine says, for `epp doctor`."""
        said = request.facts.get(self._predicted)
        if said is None:
            return
        told = tokens_of(request)
        compared = Compared(
            id=request.id,
            client_id=request.headers.get(REQUEST_ID, ""),
            endpoint=decision.endpoint.name,
            tokens_by=told.by if told is not None else "bytes",
            tokens=told.tokens if told is not None else request.prompt_tokens,
            reported_tokens=usage.prompt_tokens,
            predicted=said.cached,
            cached=usage.cached_tokens,
            live=said.live,
            salted=bool(request.cache_salt),
            adapter=self._adapter(request),
        )
        self.compared.append(compared)

    def _note_prediction(self, request: Request, pool: PoolView, row: int) -> None:
        cached = pool.get(self._own_tokens)
        if cached is not None:
            live = int(pool.slots[row]) in self.residency.live
            request.facts.put(self._predicted, Prediction(int(cached[row]), live))

    def held_blocks(self, slot: int) -> int:
        """Blocks the endpoint in `slot` holds; for the debug page."""
        return self.residency.held(slot)

    # -- tokens and keys --------------------------------------------------------------------------

    def _chains(self, request: Request, size: int) -> Chains:
        """The request's keys for one block size, computed once and kept with it."""
        known = request.facts.get(self._keys)
        if known is None:
            known = {}
            request.facts.put(self._keys, known)
        if size not in known:
            known[size] = self._hashed(request, size)
        return known[size]

    def _hashed(self, request: Request, size: int) -> Chains:
        seed = cache_seed(request.cache_salt, self._adapter(request))
        most = self.params.max_prefix_tokens_to_match
        told = tokens_of(request)
        if told is None:
            return self._hashed_bytes(request, size * every(size), seed)
        items = told.items or ((),) * len(told.prompts)
        chains = tuple(
            exact_keys(ids, size, seed, beside, most)
            for ids, beside in zip(told.prompts, items, strict=True)
        )
        return Chains(size, chains, tuple(map(len, told.prompts)), exact=True, by=told.by)

    def _hashed_bytes(self, request: Request, size: int, seed: int) -> Chains:
        """In blocks as large as those that are kept of our own picks: nobody tells of others."""
        most = self.params.max_prefix_tokens_to_match
        chains = tuple(block_keys(prompt, size, seed, most) for prompt in request.prompts)
        lengths = tuple(prompt.tokens for prompt in request.prompts)
        return Chains(size, chains, lengths, exact=False, by="bytes")

    def _adapter(self, request: Request) -> str:
        """The adapter a request is for; empty for the base model, whatever it is called."""
        return request.target_model if request.target_model in self.residency.adapters else ""

    # -- matches ----------------------------------------------------------------------------------

    def _matched(self, found: Chains, slots: Ints) -> Ints:
        """Tokens of the leading blocks that each slot holds, all prompts together."""
        tokens = np.zeros(len(slots), dtype=np.int64)
        for chain, length in zip(found.chains, found.lengths, strict=True):
            usable = max(length - 1, 0) // found.size if found.exact else len(chain)
            worth = np.minimum(self._blocks(found, chain, slots), usable)
            tokens += (worth * found.size).astype(np.int64, copy=False)
        return tokens

    def _blocks(self, found: Chains, chain: Sequence[int], slots: Ints) -> Ints | Floats:
        """Leading blocks of one chain by slot, each as much as its tier is worth."""
        if not found.exact:
            return self.residency.guess(chain, found.size, slots)
        told = self.residency.match(chain, found.size, slots, self._clock())
        worth: Ints | Floats = told.any
        if told.any is not told.fast:
            worth = told.fast + (told.any - told.fast) * self._slow_weight
        return np.maximum(worth, told.expected)

    def _default_size(self, pool: PoolView) -> int:
        reported = pool.get("block_size")
        largest = 0 if reported is None else int(reported.max(initial=0))
        return own_block(largest or self.params.block_tokens)

    def _capacity(self, pool: PoolView, row: int) -> int:
        """Tokens the endpoint in `row` can hold."""
        blocks, size = pool.get("kv_blocks"), pool.get("block_size")
        if blocks is not None and size is not None and blocks[row] > 0 and size[row] > 0:
            return int(blocks[row]) * int(size[row])
        return self.residency.max_blocks * 16 // max(len(pool), 1)


class PrecisePrefixCacheScorer(PrecisePrefixCacheProducer):
    """precise-prefix-cache-scorer: both the producer of exact matches and a scorer of them.

    Formula: cached / total, in prompt tokens, by what precise-prefix-cache-producer finds.
    Parameters: those of precise-prefix-cache-producer: tokenProcessorConfig, indexerConfig,
    kvEventsConfig, speculativeIndexing, speculativeTTL, maxPrefixTokensToMatch, snapshotFile.
    Reads: slots, block_size, kv_blocks. Writes: what precise-prefix-cache-producer writes.
    Differs from the Go picker: the score is the share of the prompt, not of the longest match, so
    a short match on one endpoint alone weighs little. New configurations name the producer, and
    prefix-cache-scorer with prefixMatchInfoProducerName.
    Example:
        - type: precise-prefix-cache-scorer
          parameters: {kvEventsConfig: {podDiscoveryConfig: {socketPort: 5557}}}
    """

    type: ClassVar[str] = "precise-prefix-cache-scorer"

    def score(self, request: Request, pool: PoolView) -> Scores | None:
        return matched_share(pool, self._name)


def tokens_of(request: Request) -> Tokenized | None:
    """The engine's tokens of a request's prompts; None where only their bytes are known."""
    told = request.facts.get(TOKENIZED)
    return told if told is not None else given(request.prompts)
