"""A straight line through many features, learned sample by sample: least squares that forgets.

Least squares with forgetting in information form: `A = keep * A + x x' / s**2` and `b = keep * b +
x y / s**2`, solved for `A c = b` with no coefficient below 0. More load never makes anything
faster; where data say so it is chance, and a line with such a slope goes astray outside of what it
has seen. `s` is the sample's own size, so that errors count by what part of it they are. In this
form forgetting is a product, and directions without data fade towards 0 instead of growing wild.
"""

from typing import Final

import numpy as np

from epp.domain.pool import Floats

BATCH: Final = 16
"""Samples that are folded in together: one solution for all of them costs each 25 us, one for
each 200 (test/bench/bench_latency.py)."""
RIDGE: Final = 1e-4
"""Of the mean of A's diagonal: enough that features which always go together share their weight."""


class ForgettingFit:
    """`y = coefficients . x`, every coefficient at least 0; features should be of size 1 or so."""

    __slots__ = ("_keep", "_moment", "_pending", "_square", "_width", "coefficients", "samples")

    def __init__(self, width: int, keep: float) -> None:
        """`keep` is what a sample still weighs after the next one, below 1."""
        self.coefficients: Floats = np.zeros(width)
        self.samples = 0
        """How many were learned from."""
        self._width = width
        self._keep = keep
        self._square: Floats = np.zeros((width, width))
        self._moment: Floats = np.zeros(width)
        self._pending: list[tuple[Floats, float]] = []

    def of(self, x: Floats) -> float:
        """What `x`, shape `(width,)`, comes to."""
        return float(self.coefficients @ x)

    def learn(self, x: Floats, y: float, size: float) -> None:
        """Take a sample in; `size` above 0 is what its error is measured by."""
        self.samples += 1
        self._pending.append((x / size, y / size))
        if len(self._pending) == BATCH:
            self._fold()

    def scale(self, factor: float) -> None:
        """From here on everything comes to `factor` times as much; the further from 1, the less
        what was seen before still counts.
        """
        worth = min(factor, 1.0 / factor)
        self.coefficients = self.coefficients * factor
        self._square *= worth
        self._moment *= worth * factor
        self._pending = [(x, y * factor) for x, y in self._pending]

    def _fold(self) -> None:
        rows = np.array([x for x, _ in self._pending])
        aims = np.array([y for _, y in self._pending])
        self._pending.clear()
        keep = self._keep**BATCH
        self._square = self._square * keep + rows.T @ rows
        self._moment = self._moment * keep + rows.T @ aims
        self.coefficients = solved(self._square, self._moment)


def solved(square: Floats, moment: Floats) -> Floats:
    """The least squares solution with no coefficient below 0, by dropping the worst until none is.

    Dropping is greedy: a feature that would have come back beside others stays out until the next
    solution, which begins with all of them.
    """
    ridge = RIDGE * float(np.trace(square)) / len(moment)
    padded = square + ridge * np.eye(len(moment))
    found = np.zeros(len(moment))
    among = np.flatnonzero(np.diag(square) > 0)
    while among.size:
        part = np.linalg.solve(padded[np.ix_(among, among)], moment[among])
        if part.min() >= 0:
            found[among] = part
            return found
        among = np.delete(among, part.argmin())
    return found
