"""The picker by lot, weighted."""

from typing import ClassVar, Final, TypeAlias

import numpy as np

from epp.domain.pool import Ints, PoolView, Scores
from epp.domain.request import Request
from epp.plugins.pickers._choice import PickerParams, uniforms
from epp.points import Tools

TINY: Final = 1e-300


class WeightedRandomPicker:
    """weighted-random-picker: picks at random, with chances in proportion to the totals.

    Formula: A-Res: the highest U**(1/total) wins, U evenly from (0, 1). A total of 0 comes after
    all others; if all are 0 each has the same chance.
    Parameters: maxNumOfEndpoints (how many to name, default 1).
    Reads: totals.
    Example:
        - type: weighted-random-picker
    """

    type: ClassVar[str] = "weighted-random-picker"
    Params: TypeAlias = PickerParams

    def __init__(self, params: PickerParams, tools: Tools) -> None:
        self._most = params.max_num_of_endpoints
        self._random = tools.random

    def pick(self, request: Request, pool: PoolView, totals: Scores) -> Ints:
        # The same order by logarithms of -log(U) / total, in which nothing under- or overflows.
        draws = -np.log1p(-uniforms(self._random, len(totals)))
        logs = np.log(np.maximum(draws, TINY))
        some = totals > 0
        waits = np.full(len(totals), np.inf)
        waits[some] = logs[some] - np.log(totals[some])
        if self._most == 1:
            first = waits if some.any() else draws
            return np.array([first.argmin()])
        return np.lexsort((draws, waits))[: self._most]
