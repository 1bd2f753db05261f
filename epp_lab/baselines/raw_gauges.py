"""Scorers of the Go picker over gauges as scraped: its own dispatches are not counted in.

Between two pages every request sees the same values, and the best endpoint draws all of them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from epp.domain.pool import Column, PoolView, Scores
from epp.domain.request import Request


class RawQueueScorer:
    """lab-raw-queue-scorer: (max - waiting) / (max - min), 1 for all where all are equal."""

    type: ClassVar[str] = "lab-raw-queue-scorer"

    def score(self, request: Request, pool: PoolView) -> Scores:
        waiting = scraped(pool, "raw_waiting")
        low, high = waiting.min(), waiting.max()
        if high == low:
            return np.ones(len(pool))
        scores: Scores = (high - waiting) / (high - low)
        return scores


class RawKvScorer:
    """lab-raw-kv-scorer: 1 - KV usage, however old."""

    type: ClassVar[str] = "lab-raw-kv-scorer"

    def score(self, request: Request, pool: PoolView) -> Scores:
        return 1.0 - pool.kv_usage


def scraped(pool: PoolView, name: str) -> Column:
    """A gauge as scraped, 0 where none has come yet."""
    column = pool.get(name)
    return np.zeros(len(pool)) if column is None else np.nan_to_num(column)
