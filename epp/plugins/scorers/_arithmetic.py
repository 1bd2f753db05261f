"""What scorers share: from loads to scores in [0, 1].

Where metrics are too old, columns hold what can still be said: our own requests, and beside fresh
endpoints more than the busiest of those.
"""

import numpy as np

from epp.domain.pool import Column, Mask, Scores


def lowest_is_best(load: Column) -> Scores:
    """(max - load) / (max - min), shape `(n,)`; 1 for all where all loads are equal."""
    low, high = load.min(), load.max()
    if high == low:
        return np.ones(len(load))
    scores: Scores = (high - load) / (high - low)
    return scores


def lowest_fresh_is_best(load: Column, fresh: Mask) -> Scores:
    """`lowest_is_best` among fresh endpoints, 0 for the others; among all if none is fresh."""
    if fresh.all() or not fresh.any():
        return lowest_is_best(load)
    scores = np.zeros(len(load))
    scores[fresh] = lowest_is_best(load[fresh])
    return scores


def behind_fresh(scores: Scores, fresh: Mask) -> Scores:
    """`scores` with 0 for endpoints that are not fresh; as they are if none is fresh."""
    if fresh.all() or not fresh.any():
        return scores
    return np.where(fresh, scores, 0.0)
