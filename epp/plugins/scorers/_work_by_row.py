"""The formula of expected work for one endpoint after another, for pools of a few.

`expected_work.py` says what each term means and has the same over columns; a property test holds
the two together.
"""

from collections.abc import Sequence

from epp.domain.pool import PoolView
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL


def costs_by_row(
    prompt: int, output: int, gate: float, coldest: float, pool: PoolView
) -> list[float]:
    """Expected work in tokens, stale endpoints behind all fresh ones; `pool` is not empty."""
    fresh: list[bool] = pool.fresh.tolist()
    waiting: list[float] = pool.waiting.tolist()
    running: list[float] = pool.running.tolist()
    own: list[int] = pool.inflight_requests.tolist()
    queued: list[float] = pool.inflight_tokens.tolist()
    if any(waiting):
        queued = [
            tokens + min(max(w + r - mine, 0.0), w) * believed * prompt
            for tokens, w, r, mine, believed in zip(
                queued, waiting, running, own, fresh, strict=True
            )
        ]
    price = 1.0 + sorted(queued)[(len(queued) - 1) // 2] / max(prompt, 1)
    costs = [
        tokens + output * (1.0 + max((w + r) * believed, mine)) + uncached * price
        for tokens, w, r, mine, believed, uncached in zip(
            queued,
            waiting,
            running,
            own,
            fresh,
            _uncached(prompt, gate, price, queued, pool),
            strict=True,
        )
    ]
    _add_lacking(costs, prompt + output, fresh, pool)
    _divide_by_warmth(costs, coldest, pool)
    return costs if all(fresh) else _stale_behind(costs, fresh)


def _uncached(
    prompt: int, gate: float, price: float, queued: Sequence[float], pool: PoolView
) -> Sequence[float]:
    """Prompt tokens each endpoint computes: without those of a match that is worth following."""
    column, totals = pool.get(PREFIX_TOKENS), pool.get(PREFIX_TOTAL)
    if column is None or totals is None:
        return [prompt] * len(queued)
    held: list[int] = column.tolist()
    if not any(held):
        return [prompt] * len(queued)
    least = min(queued)
    uncached = []
    for tokens, total, before in zip(held, totals.tolist(), queued, strict=True):
        cached = min(tokens, prompt)
        follows = tokens / max(total, 1) >= gate and before - least <= cached * price
        uncached.append(prompt - cached if follows else prompt)
    return uncached


def _add_lacking(costs: list[float], needed: int, fresh: Sequence[bool], pool: PoolView) -> None:
    blocks, sizes = pool.get("kv_blocks"), pool.get("block_size")
    if blocks is None or sizes is None:
        return
    memory = zip(blocks.tolist(), sizes.tolist(), pool.kv_usage.tolist(), fresh, strict=True)
    for row, (count, size, usage, believed) in enumerate(memory):
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
