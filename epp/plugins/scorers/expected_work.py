"""The default policy: one cost in tokens instead of a sum of ratios."""

from typing import ClassVar, Final

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.datastore.sample import NO_LORA
from epp.domain.pool import Column, Floats, PoolView, Scores
from epp.domain.request import Request
from epp.plugins.columns import PREFIX_TOKENS, cached_tokens, matched_share, uncached_tokens
from epp.plugins.scorers._adapters import AdapterNames, with_adapter
from epp.plugins.scorers._work_by_row import Weights, costs_by_row

COLDEST = 1 / 16
"""The least warmth that is believed: a pod that has just come still gets a share."""
SCARCITY: Final = 4.0
"""Steepness of the price of KV memory: a token of it costs expm1(4 * 1/2) = 6.4 prompt tokens where
half is taken, 54 where all is. Policies do alike from 3 to 6."""
HOLDUP: Final = 0.3
"""Share of a prompt by which it holds up an answer. Agents and long chats at 1.3 of the
knee, four seeds: 66 % in time without, 81 with it (lab, `more-toolagent`)."""
AT_ONCE: Final = 8192
"""Prompt tokens that one step of an engine takes (vLLM on large GPUs): so many hold nothing up."""
FEW = 24
"""Up to so many endpoints a loop over rows is cheaper than the same formula over columns: 18 us
against 36 for 10 endpoints, even at 25 (test/bench/bench_plugins.py)."""


class ExpectedWorkScorer:
    """expected-work-scorer: prefers endpoints with the least work before the answer, in tokens.

    Formula: cost = (uncached * pressure + queued + memory * scarcity + output * (1 + batch) +
    holdup * answers) * slowness / warmth, in tokens; the score is (least cost) / cost. `uncached`
    prompt tokens are computed there, a match counting only when it covers at least affinityGate of
    the prompt; `queued` are the prefill tokens ahead (ours in flight, and those of waiting requests
    that others sent); `memory` is what the request takes of KV memory, uncached + output; `output`
    is outputTokens or the client's limit, and as many tokens are computed for each of the `batch`
    before the answer is done. `pressure` = 1 + (median queued) / (prompt tokens): what is computed
    again also delays the requests that wait behind it. `holdup` = 0.3 * the lesser of the least
    uncached and of what the median queued has beyond 8192, a step of the engine: while prompts wait
    everywhere, one that is computed in any case holds up each of the `answers` past their first
    token where it goes. `scarcity` = e^(4u) - 1, u being the share of the endpoint's KV memory that
    is held, or promised since the scrape: a token of memory costs the pool the more the less is
    left, for others must wait for it, are preempted or lose their prefixes (the exponential price
    of capacity of Aspnes, Azar et al., "On-line routing of virtual circuits", 1997, which is
    competitive whatever comes). So a prefix is copied freely into empty memory and hardly ever into
    full. `slowness` is what the endpoint's work takes over what it takes elsewhere, learned from
    its counters of tokens, 1 where they say nothing. A LoRA adapter that does not run there costs
    half a second of prompts to load; endpoints whose places are all taken stand behind. Endpoints
    with metrics that are too old are rated by our own requests there and stand behind all fresh
    ones.
    Parameters: affinityGate (share of the prompt, 0..1, default 0.1), outputTokens (expected where
    the client sets no lower limit, default 256).
    Reads: waiting, running, inflight_requests, inflight_tokens, kv_usage, fresh; prefix_tokens,
    unseen_tokens, inflight_decoding, kv_blocks, block_size, slowness, warmth, lora, prefill_rate
    where known.
    Differs from the Go picker: it has no such scorer; its default adds queue, KV and prefix ratios.
    Example:
        - type: expected-work-scorer
    """

    type: ClassVar[str] = "expected-work-scorer"
    consumes: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS,)

    class Params(PluginParams):
        affinity_gate: float = Field(0.1, ge=0.0, le=1.0)
        output_tokens: int = Field(256, ge=1)

    def __init__(self, params: Params) -> None:
        self._gate = params.affinity_gate
        self._output = params.output_tokens
        self._adapters = AdapterNames()

    def score(self, request: Request, pool: PoolView) -> Scores:
        if len(pool) > FEW:
            costs = stale_behind(self.cost(request, pool), pool)
        else:
            costs = np.array(self._costs_by_row(request, pool))
        costs = self._with_adapter(costs, request, pool)
        scores: Scores = np.minimum.reduce(costs) / costs
        return scores

    def _costs_by_row(self, request: Request, pool: PoolView) -> list[float]:
        """The same, row by row in plain Python."""
        weights = Weights(
            prompt=request.prompt_tokens,
            output=self._expected_output(request),
            gate=self._gate,
            coldest=COLDEST,
            scarcity=SCARCITY,
            holdup=HOLDUP,
            at_once=AT_ONCE,
        )
        return costs_by_row(weights, pool)

    def _with_adapter(self, costs: Floats, request: Request, pool: PoolView) -> Floats:
        """What waiting for the request's adapter adds; nothing where no engine has adapters."""
        column, rates = pool.get("lora"), pool.get("prefill_rate")
        if column is None or rates is None:
            return costs
        states = column.tolist()
        # Without LoRA every row is the same object: 2 us for 1,000 of them, one by one 60.
        if states.count(NO_LORA) == len(states):
            return costs
        if not any(state.max_adapters for state in states):
            return costs
        self._adapters.learn(states)
        if request.target_model not in self._adapters:
            return costs
        return np.array(with_adapter(costs.tolist(), request.target_model, states, rates.tolist()))

    def cost(self, request: Request, pool: PoolView) -> Floats:
        """Expected work in tokens, above 0, shape `(n,)`; stale rows and adapters left aside."""
        queued = queued_tokens(uncached_tokens(request, pool), pool)
        computed, output = self._computed(request, pool), self._expected_output(request)
        middle = median(queued)
        tokens = queued + computed * pressure(request.prompt_tokens, middle)
        tokens += output * (1.0 + batch(pool))
        if held := holdup(computed, middle):
            tokens += held * answers(pool)
        tokens += (computed + output) * scarcity(queued, pool)
        return tokens * slowness(pool) / warmth(pool)

    def _computed(self, request: Request, pool: PoolView) -> Column | int:
        """Prompt tokens to compute: all but those of a match that is worth following."""
        cached = cached_tokens(request, pool)
        share = None if cached is None or not cached.any() else matched_share(pool)
        if cached is None or share is None:
            return request.prompt_tokens
        computed: Column = request.prompt_tokens - cached * (share >= self._gate)
        return computed

    def _expected_output(self, request: Request) -> int:
        if request.max_output_tokens is None:
            return self._output
        return max(min(self._output, request.max_output_tokens), 1)


def median(queued: Column) -> float:
    """Prefill tokens that at least half of the endpoints have ahead, of two the lesser.

    The median, so that one stuck endpoint does not make all others follow their caches blindly.
    """
    middle = (len(queued) - 1) // 2
    return float(np.partition(queued, middle)[middle])


def pressure(prompt_tokens: int, middle: float) -> float:
    """What a token computed again costs the pool: itself, and once for each prompt behind it.

    1 while half of the endpoints have nothing queued.
    """
    return 1.0 + middle / max(prompt_tokens, 1)


def holdup(computed: Column | int, middle: float) -> float:
    """Tokens by which the request holds up each answer that is written where it goes.

    Of what is computed wherever it goes, so that no cache is followed for it into a full batch;
    0 while half of the endpoints have no more queued than a step takes, for then there is time.
    """
    if middle <= AT_ONCE:
        return 0.0
    least = computed if isinstance(computed, int) else float(computed.min())
    return HOLDUP * min(least, middle - AT_ONCE)


def batch(pool: PoolView) -> Floats:
    """Requests that share the engine's steps: its word where fresh, never below what we sent."""
    return np.maximum((pool.running + pool.waiting) * pool.fresh, pool.inflight_requests)


def answers(pool: PoolView) -> Floats:
    """Answers that the engine writes: ours past their first token, and what others sent."""
    others: Floats = np.maximum(pool.running - pool.inflight_requests, 0.0) * pool.fresh
    ours = pool.get("inflight_decoding")
    return others if ours is None else others + ours


def queued_tokens(uncached: Column, pool: PoolView) -> Column:
    """Prefill tokens ahead of the request.

    What others sent (another picker, a direct client) is the part of the engine's requests that is
    not ours; so much of its queue is theirs, and each counts as one like this, `uncached` tokens.
    """
    if not pool.waiting.any():
        return pool.inflight_tokens
    total = pool.waiting + pool.running
    others = np.maximum(total - pool.inflight_requests, 0.0) / np.maximum(total, 1.0)
    return pool.inflight_tokens + pool.waiting * others * pool.fresh * uncached


def scarcity(queued: Column, pool: PoolView) -> Floats:
    """What a token of KV memory costs each endpoint, in prompt tokens: 0..53.6, shape `(n,)`.

    Memory that is promised counts as held where the endpoint's size is known: that of the `queued`
    tokens, or of all we sent since the last scrape if that is more.
    """
    usage = pool.kv_usage
    blocks, block_size = pool.get("kv_blocks"), pool.get("block_size")
    if blocks is not None and block_size is not None:
        size = blocks * block_size
        usage = usage + np.where(size > 0, promised(queued, pool), 0) / np.maximum(size, 1)
    return np.expm1(SCARCITY * np.minimum(usage, 1.0))


def promised(queued: Column, pool: PoolView) -> Column:
    """Tokens of KV memory that the gauge does not show yet."""
    unseen = pool.get("unseen_tokens")
    return queued if unseen is None else np.maximum(queued, unseen)


def slowness(pool: PoolView) -> Column | float:
    """What each endpoint's work takes over what it takes elsewhere, above 0."""
    known = pool.get("slowness")
    return 1.0 if known is None else known


def warmth(pool: PoolView) -> Column | float:
    """How far each endpoint is through its slow start, `COLDEST`..1."""
    known = pool.get("warmth")
    return 1.0 if known is None else np.minimum(np.maximum(known, COLDEST), 1.0)


def stale_behind(cost: Floats, pool: PoolView) -> Floats:
    """`cost`, endpoints that are not fresh behind the dearest fresh one; all stale: as it is."""
    fresh = pool.fresh
    if fresh.all() or not fresh.any():
        return cost
    return np.where(fresh, cost, cost + cost[fresh].max())
