"""The picker of the best."""

from collections.abc import Sequence
from typing import ClassVar, Final, TypeAlias

import numpy as np

from epp.domain.pool import Ints, PoolView, Scores
from epp.domain.request import Request
from epp.plugins.pickers._choice import PickerParams, uniforms
from epp.points import Tools

FEW: Final = 64
"""Up to so many rows a list is searched faster than an array."""


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

    def pick(self, request: Request, pool: PoolView, totals: Scores) -> Ints | Sequence[int]:
        if self._most == 1:
            rows = best_rows(totals)
            return [self._random.choice(rows) if len(rows) > 1 else rows[0]]
        order = np.lexsort((uniforms(self._random, len(totals)), -totals))
        return order[: self._most]


def best_rows(totals: Scores) -> list[int]:
    """The rows with the highest total. For 10 rows 1.2 us, by way of numpy 4."""
    if len(totals) > FEW:
        rows: list[int] = np.flatnonzero(totals == totals.max()).tolist()
        return rows
    values = totals.tolist()
    highest = max(values)
    return [row for row, total in enumerate(values) if total == highest]
