"""Room held back for higher priorities."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from epp.config.params import PluginParams


class PriorityHoldbackPolicy:
    """priority-holdback-policy: the lower the priority, the earlier an endpoint is full for it.

    Formula: with domain rank, ceiling = maxCeiling - i x (maxCeiling - minCeiling) / (N - 1) for
    the i-th of N bands from the top; with domain value the same line over priorities.
    Parameters: minCeiling (required, 0 up to below 1), maxCeiling (default 1), shape (linear),
    domain (rank or value, default rank).
    Reads: the bands' priorities.
    Differs from the Go picker: the ceiling is compared with how full each endpoint is.
    Example:
        - type: priority-holdback-policy
          parameters: {minCeiling: 0.6}
    """

    type: ClassVar[str] = "priority-holdback-policy"

    class Params(PluginParams):
        shape: Literal["linear"] = "linear"
        domain: Literal["rank", "value"] = "rank"
        min_ceiling: float = Field(ge=0.0, lt=1.0)
        max_ceiling: float = Field(1.0, gt=0.0, le=1.0)

        @model_validator(mode="after")
        def _in_order(self) -> "PriorityHoldbackPolicy.Params":
            if self.min_ceiling > self.max_ceiling:
                raise ValueError("minCeiling is above maxCeiling; swap them")
            return self

    def __init__(self, params: Params) -> None:
        self._params = params

    def ceilings(self, priorities: Sequence[int], saturation: float) -> Sequence[float]:
        params = self._params
        spread = params.max_ceiling - params.min_ceiling
        return [params.max_ceiling - share * spread for share in self._down(priorities)]

    def _down(self, priorities: Sequence[int]) -> list[float]:
        """How far down each stands: 0 the top, 1 the bottom."""
        last = len(priorities) - 1
        if last <= 0:
            return [0.0] * len(priorities)
        if self._params.domain == "rank":
            return [i / last for i in range(len(priorities))]
        top, span = priorities[0], priorities[0] - priorities[-1]
        return [(top - priority) / span for priority in priorities]
