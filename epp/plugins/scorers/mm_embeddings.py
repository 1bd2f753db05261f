"""The scorer of encoded images."""

from typing import ClassVar

import numpy as np

from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.columns import MM_CACHED, MM_TOTAL


class MmEmbeddingsCacheScorer:
    """mm-embeddings-cache-scorer: prefers endpoints that have encoded a request's images before.

    Formula: mm_cached / mm_total, in tokens; no opinion on a request without images.
    Parameters: none.
    Reads: mm_cached, mm_total.
    Differs from the Go picker: no opinion on text, instead of 0 for each, which is the same.
    Example:
        - type: mm-embeddings-cache-scorer
    """

    type: ClassVar[str] = "mm-embeddings-cache-scorer"
    consumes: ClassVar[tuple[str, ...]] = (MM_CACHED, MM_TOTAL)

    def score(self, request: Request, pool: PoolView) -> Scores | None:
        cached, total = pool.get(MM_CACHED), pool.get(MM_TOTAL)
        if cached is None or total is None or not total.any():
            return None
        return np.minimum(cached / total, 1.0)
