"""The formula of expected work for one endpoint after another, for pools of a few.

`expected_work.py` says what each term means and has the same over columns; a property test holds
the two together.
"""

from collections.abc import Sequence

from epp.domain.pool import PoolView
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL


def costs_by_row(
    prompt: int, output: int, gate: float, coldest: float, batched: float, pool: PoolView
) -> list[float]:
    """Expected work in tokens, stale endpoints behind all fresh ones; `pool` is not empty."""
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
    price = 1.0 + sorted(queued)[(len(queued) - 1) // 2] / max(prompt, 1)
    computed = _computed(prompt, gate, price, queued, cached, pool)
    loads = zip(queued, waiting, running, own, fresh, computed, strict=True)
    costs = [
        tokens + batched * (1.0 + max((w + r) * believed, mine)) + uncached * price
        for tokens, w, r, mine, believed, uncached in loads
    ]
    _add_lacking(costs, [prompt - held + output for held in cached], fresh, pool)
    _divide_by_warmth(costs, coldest, pool)
    return costs if all(fresh) else _stale_behind(costs, fresh)


def _cached(prompt: int, pool: PoolView) -> Sequence[int]:
    """Prompt tokens each endpoint is thought to have."""
    column = pool.get(PREFIX_TOKENS)
    if column is None:
        return [0] * len(pool)
    return [min(tokens, prompt) for tokens in column.tolist()]


def _computed(
    prompt: int,
    gate: float,
    price: float,
    queued: Sequence[float],
    cached: Sequence[int],
    pool: PoolView,
) -> Sequence[float]:
    """Prompt tokens each endpoint computes: without those of a match that is worth following."""
    totals = pool.get(PREFIX_TOTAL)
    if totals is None or not any(cached):
        return [prompt] * len(queued)
    least = min(queued)
    computed = []
    for tokens, total, before in zip(
        pool[PREFIX_TOKENS].tolist(), totals.tolist(), queued, strict=True
    ):
        held = min(tokens, prompt)
        follows = tokens / max(total, 1) >= gate and before - least <= held * price
        computed.append(prompt - held if follows else prompt)
    return computed


def _add_lacking(
    costs: list[float], wanted: Sequence[int], fresh: Sequence[bool], pool: PoolView
) -> None:
    blocks, sizes = pool.get("kv_blocks"), pool.get("block_size")
    if blocks is None or sizes is None:
        return
    usages = pool.kv_usage.tolist()
    memory = zip(blocks.tolist(), sizes.tolist(), usages, fresh, wanted, strict=True)
    for row, (count, size, usage, believed, needed) in enumerate(memory):
        room = count * size
        free = (1.0 - usage) * room
        if free < needed and room > 0 and believed:
            costs[row] += needed - free


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
