"""The scorer of any column."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from epp.config.params import PluginParams
from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.attributes import attribute


class FixedRange(PluginParams):
    """The values that score 0 and 1."""

    min: float
    max: float

    @model_validator(mode="after")
    def _is_a_range(self) -> "FixedRange":
        if self.min >= self.max:
            raise ValueError("`min` must be below `max`")
        return self


class AdaptiveRange(PluginParams):
    """The least and the largest value among the candidates."""


class Normalization(PluginParams):
    """Where 0 and 1 are."""

    fixed_range: FixedRange | None = None
    adaptive_range: AdaptiveRange | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "Normalization":
        if (self.fixed_range is None) == (self.adaptive_range is None):
            raise ValueError("give either `fixedRange` or `adaptiveRange`")
        return self


class LinearAlgorithm(PluginParams):
    """How values become scores."""

    type: Literal["linear_lower_is_better", "linear_higher_is_better"]
    normalization: Normalization


class EndpointAttributeScorer:
    """endpoint-attribute-scorer: rates endpoints by one column, linearly.

    Formula: (value - min) / (max - min) where higher is better, 1 minus that where lower is;
    clamped to 0..1; a missing value scores 0, equal values under an adaptive range score 1.
    Parameters: attributeKey (name of a column), producer (whose column, default any), algorithm
    (type linear_lower_is_better or linear_higher_is_better, normalization with fixedRange of min
    and max, or adaptiveRange).
    Reads: the named column.
    Differs from the Go picker: has no opinion where no endpoint has a value.
    Example:
        - type: endpoint-attribute-scorer
          parameters:
            attributeKey: heat
            algorithm:
              type: linear_lower_is_better
              normalization: {fixedRange: {min: 0, max: 100}}
    """

    type: ClassVar[str] = "endpoint-attribute-scorer"

    class Params(PluginParams):
        attribute_key: str = Field(min_length=1)
        producer: str = ""
        algorithm: LinearAlgorithm

    def __init__(self, params: Params) -> None:
        self._params = params
        self._lower_is_better = params.algorithm.type == "linear_lower_is_better"
        self._range = params.algorithm.normalization.fixed_range

    def score(self, request: Request, pool: PoolView) -> Scores | None:
        values = attribute(pool, self._params.attribute_key, self._params.producer)
        known = ~np.isnan(values)
        if not known.any():
            return None
        scores = np.zeros(len(pool))
        scores[known] = self._rate(values[known])
        return scores

    def _rate(self, values: Scores) -> Scores:
        low, high = values.min(), values.max()
        if self._range:
            low, high = self._range.min, self._range.max
        if low == high:
            return np.ones(len(values))
        share: Scores = np.clip((values - low) / (high - low), 0.0, 1.0)
        return 1.0 - share if self._lower_is_better else share
