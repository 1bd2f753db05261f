"""Saturation by a limit learned for each endpoint."""

from typing import ClassVar, Final

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.config.units import Duration
from epp.domain.pool import Floats, Ints, Mask, PoolView
from epp.plugins.saturation._known import among_known, mean_of_known
from epp.points import Tools

GROWTH: Final = 1.25
DECLINE: Final = 0.9
SLACK_SHARE: Final = 0.125
"""Share of a limit that may wait in the engine before it counts as too much."""
NEAR: Final = 0.8
"""A limit grows only while the endpoint is used up to this share of it."""
GROWS_EVERY: Final = 0.25
"""Seconds between two steps up: what was sent may take some pages to be seen to wait. With a whole
second a pool comes back too slowly from a burst: 36 instead of 39 good answers a second, lab."""
SAME_PAGE: Final = 0.005
"""Seconds by which two readings of when a page began may differ: its age is of when the view was
taken, a little before it is asked for."""
MOST_STEPS: Final = 4.0
"""Steps up at one page, where pages are further apart than that. With one step for a page every 5 s
requests waited for a pool that was never full: 91 % in time instead of 99, lab's `stale` at 1.1."""


class Limits:
    """How many requests each endpoint takes before its engine makes them wait, by slot."""

    def __init__(self, first: float) -> None:
        self._first = first
        self._limits: Floats = np.full(16, first)
        self._loads: Floats = np.zeros(16)
        self._seen: Floats = np.full(16, -np.inf)
        self._raised: Floats = np.full(16, -np.inf)

    def of(self, slots: Ints) -> Floats:
        """Requests, 1 or more, in the shape of `slots`."""
        self._grow(int(slots.max(initial=0)))
        return self._limits[slots]

    def learn(self, pool: PoolView, scraped: Floats, slack: float) -> None:
        """Take in what scrapes have brought since the last look; `scraped` is when they began."""
        slots, load = pool.slots, pool.waiting + pool.running
        self._grow(int(slots.max(initial=0)))
        new: Mask = (scraped > self._seen[slots] + SAME_PAGE) & pool.fresh
        if new.any():
            at, limits = slots[new], self._limits[slots[new]]
            # A few wait for no more than the prefill before theirs, the more the more there run.
            slacks = np.maximum(slack, limits * SLACK_SHARE)
            queues = pool.waiting[new] > slacks
            # Where requests wait, what runs is all that the engine takes, in batch and in memory.
            lower = np.maximum(pool.running[new] + slacks, limits * DECLINE)
            used = (self._loads[at] >= NEAR * limits) & (pool.waiting[new] <= 0.0)
            used &= scraped[new] >= self._raised[at] + GROWS_EVERY
            steps = self._steps(at, scraped[new])
            grown = np.where(used, limits * GROWTH**steps + 1.0, limits)
            self._raised[at] = np.where(used, scraped[new], self._raised[at])
            # A limit that fell while the engine was still filling its batch follows what runs.
            lower = np.maximum(np.minimum(lower, limits), pool.running[new])
            self._limits[at] = np.maximum(np.where(queues, lower, grown), 1.0)
            self._seen[at] = scraped[new]
            self._loads[at] = load[new]
        # What is shown of an endpoint without fresh gauges is the others' load, and no use of it.
        load = np.where(pool.fresh, load, pool.inflight_requests)
        self._loads[slots] = np.maximum(self._loads[slots], load)

    def _steps(self, slots: Ints, scraped: Floats) -> Floats:
        """How many steps up the time since the last page is worth; 1 for the first page."""
        since = np.where(np.isfinite(self._seen[slots]), scraped - self._seen[slots], 0.0)
        steps: Floats = np.clip(since / GROWS_EVERY, 1.0, MOST_STEPS)
        return steps

    def on_removed(self, slot: int) -> None:
        """The slot's next owner is another endpoint."""
        self._grow(slot)
        self._limits[slot], self._loads[slot] = self._first, 0.0
        self._seen[slot] = self._raised[slot] = -np.inf

    def _grow(self, slot: int) -> None:
        if slot < len(self._limits):
            return
        more = slot + 64 - len(self._limits)
        self._limits = np.concatenate([self._limits, np.full(more, self._first)])
        self._loads = np.concatenate([self._loads, np.zeros(more)])
        self._seen = np.concatenate([self._seen, np.full(more, -np.inf)])
        self._raised = np.concatenate([self._raised, np.full(more, -np.inf)])


class LearnedLimitDetector:
    """learned-limit-detector: what each endpoint takes before requests wait in its engine.

    Formula: fullness = max((waiting + running) / limit, KV memory / kvCacheUtilThreshold, seconds
    of prefill ahead / maxPrefillBacklog). The limit starts at initialLimit. A scrape that finds
    more waiting than queueSlack and an eighth of the limit takes it down a tenth, to what runs and
    that many at the lowest; one that finds nobody waiting, though the limit was used up to 0.8,
    raises it by a quarter and one, four times a second at most and, where pages are further apart,
    for up to a second at once. While requests wait it is never below what runs. KV memory is
    kv_usage and the prompt tokens on their way; prefill ahead is those tokens over the rate that is
    learned for the endpoint. Of the pool, the mean. A request waits until an endpoint has room;
    then it may as well go to one that is fuller than full by less than overfill, for the sake of
    what that one has cached.
    Parameters: initialLimit (default 64), queueSlack (default 2), kvCacheUtilThreshold (default
    0.95), maxPrefillBacklog (default 4s), overfill (default 1).
    Reads: waiting, running, kv_usage, kv_blocks, block_size, inflight_tokens, prefill_rate, slots,
    age, fresh.
    Differs from the Go picker: it has no such detector. Endpoints without fresh gauges are left
    out; if none has any, the pool is idle.
    Example:
        - type: learned-limit-detector
          parameters: {queueSlack: 4}
    """

    type: ClassVar[str] = "learned-limit-detector"

    class Params(PluginParams):
        initial_limit: int = Field(64, ge=1, le=100_000)
        queue_slack: int = Field(2, ge=0, le=100_000)
        kv_cache_util_threshold: float = Field(0.95, gt=0.0, le=1.0)
        max_prefill_backlog: Duration = Field(4.0, gt=0.0)
        overfill: float = Field(1.0, ge=0.0, le=10.0)

    def __init__(self, params: Params, tools: Tools) -> None:
        first = float(params.initial_limit)
        self._params = params
        self._clock = tools.clock
        self._limits: Limits = tools.state.keep("limits", lambda: Limits(first), shape=str(first))

    def saturation(self, pool: PoolView) -> float:
        return mean_of_known(self._raw(pool), pool)

    def fullness(self, pool: PoolView) -> Floats:
        return among_known(self._raw(pool), pool)

    def brim(self, pool: PoolView) -> Floats:
        """The same against limits that are larger by `overfill`."""
        return among_known(self._raw(pool) / (1.0 + self._params.overfill), pool)

    def limits(self, pool: PoolView) -> Floats:
        """Requests each endpoint takes now."""
        return self._limits.of(pool.slots)

    def _raw(self, pool: PoolView) -> Floats:
        self._limits.learn(pool, self._clock() - pool.age, self._params.queue_slack)
        filled: Floats = (pool.waiting + pool.running) / self._limits.of(pool.slots)
        filled = np.maximum(filled, pool.kv_usage / self._params.kv_cache_util_threshold)
        return np.maximum(filled, self._on_its_way(pool)) if pool.inflight_tokens.any() else filled

    def _on_its_way(self, pool: PoolView) -> Floats:
        """What prompts that are not computed yet will fill: memory, and time."""
        filled = np.zeros(len(pool))
        if (rate := pool.get("prefill_rate")) is not None:
            backlog = pool.inflight_tokens / np.maximum(rate, 1.0)
            filled = backlog / self._params.max_prefill_backlog
        blocks, size = pool.get("kv_blocks"), pool.get("block_size")
        if blocks is not None and size is not None:
            room = blocks * size
            memory = pool.kv_usage + pool.inflight_tokens / np.where(room > 0, room, np.inf)
            filled = np.maximum(filled, memory / self._params.kv_cache_util_threshold)
        return filled
