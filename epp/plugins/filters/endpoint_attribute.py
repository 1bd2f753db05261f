"""The filter of any column."""

import operator
from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.plugins.attributes import attribute

OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "LessThan": operator.lt,
    "LessThanOrEqual": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqual": operator.ge,
    "Equal": operator.eq,
    "NotEqual": operator.ne,
}


class Threshold(PluginParams):
    """`column operator value`."""

    operator: Literal[
        "LessThan", "LessThanOrEqual", "GreaterThan", "GreaterThanOrEqual", "Equal", "NotEqual"
    ]
    value: float


class ThresholdAlgorithm(PluginParams):
    """How values become a mask; there is one way."""

    type: Literal["threshold"]
    threshold: Threshold


class EndpointAttributeFilter:
    """endpoint-attribute-filter: keeps endpoints by comparing one column with a number.

    Formula: keep where `attribute operator value`; missing values by onMissing; all if that leaves
    none and fallbackOnEmpty is set.
    Parameters: attribute (name of a column, such as one of a custom metric), producer (whose
    column, default any), onMissing (Pass or Fail, default Pass), fallbackOnEmpty (default false),
    algorithm (type threshold, threshold with operator and value; operators LessThan,
    LessThanOrEqual, GreaterThan, GreaterThanOrEqual, Equal, NotEqual).
    Reads: the named column.
    Example:
        - type: endpoint-attribute-filter
          parameters:
            attribute: heat
            algorithm: {type: threshold, threshold: {operator: LessThan, value: 0.9}}
    """

    type: ClassVar[str] = "endpoint-attribute-filter"

    class Params(PluginParams):
        attribute: str = Field(min_length=1)
        producer: str = ""
        on_missing: Literal["Pass", "Fail"] = "Pass"
        fallback_on_empty: bool = False
        algorithm: ThresholdAlgorithm

    def __init__(self, params: Params) -> None:
        self._params = params
        self._value = params.algorithm.threshold.value
        self._compare = OPERATORS[params.algorithm.threshold.operator]

    def filter(self, request: Request, pool: PoolView) -> Mask:
        values = attribute(pool, self._params.attribute, self._params.producer)
        missing = np.isnan(values)
        mask: Mask = self._compare(values, self._value) & ~missing
        if self._params.on_missing == "Pass":
            mask |= missing
        return ~mask if self._params.fallback_on_empty and not mask.any() else mask
