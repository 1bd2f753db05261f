"""The one rule about gauges that are not known."""

import numpy as np

from epp.domain.pool import Floats, PoolView


def mean_of_known(fullness: Floats, pool: PoolView) -> float:
    """Over the endpoints with fresh gauges; 0 where there are none."""
    known = fullness[pool.fresh]
    return float(known.mean()) if len(known) else 0.0


def among_known(fullness: Floats, pool: PoolView) -> Floats:
    """By endpoint: one without fresh gauges is full beside others that have them, else idle."""
    fresh = pool.fresh
    if fresh.all():
        return fullness
    if not fresh.any():
        return np.zeros(len(pool))
    return np.where(fresh, fullness, 1.0)
