"""The producer of bursts: requests with one prompt, sent together, go to one endpoint."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import Column, Ints, PoolView
from epp.domain.request import Key, Request
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL, named
from epp.points import Tools
from epp.tokens.blocks import block_keys, chain_seed

NOBODY: Final = -1
SLACK: Final = 0.1
"""Seconds a request waits for a window above its length."""


class Burst:
    """What came within one window: groups by prompt, each with the sizes of its requests."""

    def __init__(self) -> None:
        self.over = asyncio.get_running_loop().create_future()
        """Done when the window has closed."""
        self.count = 0
        self._groups: dict[int, list[int]] = {}
        self._slots: dict[tuple[int, int], int] | None = None

    def add(self, group: int, tokens: int) -> int:
        """A request of `group`; returns its place among them."""
        members = self._groups.setdefault(group, [])
        members.append(tokens)
        self.count += 1
        return len(members) - 1

    def close(self) -> None:
        """Let them all go."""
        if not self.over.done():
            self.over.set_result(None)

    def slot_of(self, group: int, place: int, slots: Ints, share: "Share") -> int:
        """The slot of that request's endpoint; all are shared out when the first one asks."""
        if self._slots is None:
            self._slots = share(self._groups, slots.tolist())
        return self._slots.get((group, place), NOBODY)


class Share:
    """Shares groups out: the largest first, each to the endpoint that has least by then.

    A group of more than `most` requests goes in parts of so many.
    """

    def __init__(self, most: int, *, by_tokens: bool) -> None:
        self._most = most
        self._by_tokens = by_tokens

    def __call__(
        self, groups: Mapping[int, list[int]], slots: list[int]
    ) -> dict[tuple[int, int], int]:
        given = dict.fromkeys(slots, 0)
        shared: dict[tuple[int, int], int] = {}
        parts = [part for group, sizes in groups.items() for part in self._parts(group, sizes)]
        for weight, members in sorted(parts, key=lambda part: -part[0]):
            slot = min(given, key=given.__getitem__)
            given[slot] += weight
            shared.update(dict.fromkeys(members, slot))
        return shared

    def _parts(self, group: int, sizes: list[int]) -> list[tuple[int, list[tuple[int, int]]]]:
        step = self._most if self._most > 0 else len(sizes)
        return [
            (
                sum(sizes[start : start + step]) if self._by_tokens else len(sizes[start:][:step]),
                [(group, place) for place in range(start, min(start + step, len(sizes)))],
            )
            for start in range(0, len(sizes), step)
        ]


class BurstPrefixCacheProducer:
    """burst-prefix-cache-producer: sends requests with one prompt that come together to one place.

    Formula: requests wait until the window that the first of them opened closes, or maxBatchSize
    have come. Those whose full blocks are all the same are a group; groups go to endpoints, largest
    first, each to the one that was given least; a group is cut into parts of maxPerReplica. Its
    columns say that the endpoint a request was given has all of its prompt, and the others nothing.
    Parameters: windowDurationMs (1 to 10000, default 100), maxPerReplica (default -1: no bound),
    blockSizeTokens (default 64), maxPrefixTokensToMatch (default 0: the whole prompt),
    minColocateBlocks (default 0; shorter prompts do not wait), maxBatchSize (default 1000),
    balanceBy (requests or tokens, default requests).
    Reads: prompts, slots. Writes: prefix_tokens and prefix_total under its own name, for a scorer
    whose prefixMatchInfoProducerName names it.
    Example:
        - type: burst-prefix-cache-producer
          parameters: {windowDurationMs: 50, balanceBy: tokens}
        - type: prefix-cache-scorer
          parameters: {prefixMatchInfoProducerName: burst-prefix-cache-producer}
    """

    type: ClassVar[str] = "burst-prefix-cache-producer"
    produces_named: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS, PREFIX_TOTAL)

    class Params(PluginParams):
        window_duration_ms: int = Field(100, ge=1, le=10_000)
        max_per_replica: int = Field(-1, ge=-1)
        block_size_tokens: int = Field(64, ge=1, le=65536)
        max_prefix_tokens_to_match: int = Field(0, ge=0)
        min_colocate_blocks: int = Field(0, ge=0)
        max_batch_size: int = Field(1000, ge=1, le=100_000)
        balance_by: Literal["requests", "tokens"] = "requests"

    def __init__(self, params: Params, tools: Tools) -> None:
        self._params = params
        self._share = Share(params.max_per_replica, by_tokens=params.balance_by == "tokens")
        self._tokens = named(PREFIX_TOKENS, tools.name)
        self._total = named(PREFIX_TOTAL, tools.name)
        self._key: Key[tuple[Burst, int, int]] = Key(f"burst of {tools.name}")
        self._open: Burst | None = None
        self.patience = SLACK + params.window_duration_ms / 1e3

    def gather(self, request: Request) -> Awaitable[None] | None:
        keys = self._keys(request)
        if not keys or len(keys) < self._params.min_colocate_blocks:
            return None
        burst = self._open or self._opened()
        place = burst.add(keys[-1], request.prompt_tokens)
        request.facts.put(self._key, (burst, keys[-1], place))
        if burst.count >= self._params.max_batch_size:
            self._close(burst)
        return self._wait(burst)

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        total = np.full(len(pool), request.prompt_tokens, dtype=np.int64)
        found = request.facts.get(self._key)
        if found is None:
            return {self._tokens: np.zeros_like(total), self._total: total}
        burst, group, place = found
        self._close(burst)
        slot = burst.slot_of(group, place, pool.slots, self._share)
        return {self._tokens: np.where(pool.slots == slot, total, 0), self._total: total}

    def _keys(self, request: Request) -> list[int]:
        """Of all prompts, one chain after the other."""
        key, keys = chain_seed(request.target_model, request.cache_salt), []
        most = self._params.max_prefix_tokens_to_match or None
        for prompt in request.prompts:
            keys += block_keys(prompt, self._params.block_size_tokens, key, most)
            key = keys[-1] if keys else key
        return keys

    def _opened(self) -> Burst:
        burst = self._open = Burst()
        loop = asyncio.get_running_loop()
        loop.call_later(self._params.window_duration_ms / 1e3, self._close, burst)
        return burst

    def _close(self, burst: Burst) -> None:
        burst.close()
        if self._open is burst:
            self._open = None

    @staticmethod
    async def _wait(burst: Burst) -> None:
        # Shielded: a request that leaves takes the others' window with it otherwise.
        await asyncio.shield(burst.over)
