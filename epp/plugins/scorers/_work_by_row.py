"""The formula of expected work for one endpoint after another, for pools of a few.

`expected_work.py` says what each term means and has the same over columns; a property test holds
the two together.
"""

from collections.abc import Iterable, Sequence
from math import expm1
from typing import NamedTuple

from epp.domain.pool import PoolView
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL


class Weights(NamedTuple):
    """What is the same for every row: tokens of prompt and expected answer, and the constants."""

    prompt: int
    output: int
    gate: float
    coldest: float
    scarcity: float
    holdup: float
    at_once: int


def costs_by_row(weights: Weights, pool: PoolView) -> list[float]:
    """Expected work in tokens, stale endpoints behind all fresh ones; `pool` is not empty."""
    prompt = weights.prompt
    fresh: list[bool] = pool.fresh.tolist()
    waiting: list[float] = pool.waiting.tolist()
    running: list[float] = pool.running.tolist()
    own: list[int] = pool.inflight_requests.tolist()
    cached = _cached(prompt, pool)
    queued: list[float] = pool.inflight_tokens.tolist()
    if any(waiting):
        rows = zip(queued, waiting, running, own, fresh, cached, strict=True)
        queued = [
            tokens + w * (max(w + r - mine, 0.0) / max(w + r, 1.0)) * believed * (prompt - held)
            for tokens, w, r, mine, believed, held in rows
        ]
    middle = sorted(queued)[(len(queued) - 1) // 2]
    price = 1.0 + middle / max(prompt, 1)
    computed = _computed(prompt, weights.gate, cached, pool)
    holdup = weights.holdup * min(max(middle - weights.at_once, 0.0), *computed)
    loads = zip(queued, waiting, running, own, fresh, computed, _decoding(pool), strict=True)
    costs = [
        tokens
        + weights.output * (1.0 + max((w + r) * believed, mine))
        + holdup * (ours + max(r - mine, 0.0) * believed)
        + uncached * price
        for tokens, w, r, mine, believed, uncached, ours in loads
    ]
    _add_memory(costs, weights, computed, queued, pool)
    _times_slowness(costs, pool)
    _divide_by_warmth(costs, weights.coldest, pool)
    return costs if all(fresh) else _stale_behind(costs, fresh)


def _cached(prompt: int, pool: PoolView) -> Sequence[int]:
    """Prompt tokens each endpoint is thought to have."""
    column = pool.get(PREFIX_TOKENS)
    if column is None:
        return [0] * len(pool)
    return [min(tokens, prompt) for tokens in column.tolist()]


def _decoding(pool: PoolView) -> Sequence[int]:
    """Our own requests past their first token."""
    column = pool.get("inflight_decoding")
    return [0] * len(pool) if column is None else column.tolist()


def _computed(prompt: int, gate: float, cached: Sequence[int], pool: PoolView) -> Sequence[int]:
    """Prompt tokens each endpoint computes: without those of a match that is worth following."""
    totals = pool.get(PREFIX_TOTAL)
    if totals is None or not any(cached):
        return [prompt] * len(cached)
    shares = zip(pool[PREFIX_TOKENS].tolist(), totals.tolist(), cached, strict=True)
    return [
        prompt - held if tokens / max(total, 1) >= gate else prompt
        for tokens, total, held in shares
    ]


def _add_memory(
    costs: list[float],
    weights: Weights,
    computed: Sequence[int],
    queued: Sequence[float],
    pool: PoolView,
) -> None:
    """The KV memory that the request takes, at each endpoint's price."""
    usages: list[float] = pool.kv_usage.tolist()
    blocks, sizes = pool.get("kv_blocks"), pool.get("block_size")
    if blocks is not None and sizes is not None:
        memory = zip(usages, _promised(queued, pool), (blocks * sizes).tolist(), strict=True)
        usages = [used + (tokens / size if size > 0 else 0.0) for used, tokens, size in memory]
    for row, (usage, uncached) in enumerate(zip(usages, computed, strict=True)):
        if usage > 0.0:
            costs[row] += (uncached + weights.output) * expm1(weights.scarcity * min(usage, 1.0))


def _promised(queued: Sequence[float], pool: PoolView) -> Iterable[float]:
    unseen = pool.get("unseen_tokens")
    return queued if unseen is None else map(max, queued, unseen.tolist())


def _times_slowness(costs: list[float], pool: PoolView) -> None:
    known = pool.get("slowness")
    if known is None:
        return
    for row, slow in enumerate(known.tolist()):
        if slow != 1.0:
            costs[row] *= slow


def _divide_by_warmth(costs: list[float], coldest: float, pool: PoolView) -> None:
    known = pool.get("warmth")
    if known is None:
        return
    for row, warm in enumerate(known.tolist()):
        if warm < 1.0:
            costs[row] /= max(warm, coldest)


def _stale_behind(costs: list[float], fresh: Sequence[bool]) -> list[float]:
    if not any(fresh):
        return costs
    dearest = max(cost for cost, believed in zip(costs, fresh, strict=True) if believed)
    return [c if believed else c + dearest for c, believed in zip(costs, fresh, strict=True)]
