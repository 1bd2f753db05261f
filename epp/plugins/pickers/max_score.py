"""The picker of the best."""

from typing import ClassVar, TypeAlias

import numpy as np

from epp.domain.pool import Ints, PoolView, Scores
from epp.domain.request import Request
from epp.plugins.pickers._choice import PickerParams, uniforms
from epp.points import Tools


class MaxScorePicker:
    """max-score-picker: picks the endpoint with the highest total; ties at random.

    Formula: order by total, falling; equal totals in random order.
    Parameters: maxNumOfEndpoints (how many to name, default 1).
    Reads: totals.
    Example:
        - type: max-score-picker
    """

    type: ClassVar[str] = "max-score-picker"
    Params: TypeAlias = PickerParams

    def __init__(self, params: PickerParams, tools: Tools) -> None:
        self._most = params.max_num_of_endpoints
        self._random = tools.random

    def pick(self, request: Request, pool: PoolView, totals: Scores) -> Ints:
        if self._most == 1:
            best = np.flatnonzero(totals == totals.max())
            chosen = self._random.randrange(len(best)) if len(best) > 1 else 0
            return best[chosen : chosen + 1]
        order = np.lexsort((uniforms(self._random, len(totals)), -totals))
        return order[: self._most]
