"""The picker that looks at no score."""

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.pickers._choice import PickerParams
from epp.points import Tools


class RandomPicker:
    """random-picker: picks any endpoint, each with the same chance.

    Formula: a sample without replacement; scores do not count.
    Parameters: maxNumOfEndpoints (how many to name, default 1).
    Reads: nothing.
    Example:
        - type: random-picker
    """

    type: ClassVar[str] = "random-picker"
    Params: TypeAlias = PickerParams

    def __init__(self, params: PickerParams, tools: Tools) -> None:
        self._most = params.max_num_of_endpoints
        self._random = tools.random

    def pick(self, request: Request, pool: PoolView, totals: Scores) -> Sequence[int]:
        return self._random.sample(range(len(pool)), min(self._most, len(pool)))
