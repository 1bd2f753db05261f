"""The filters of labels in general."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from epp.config.params import PluginParams
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.plugins.filters._labels import LabelRule


class Requirement(PluginParams):
    """One of a selector's `matchExpressions`, as Kubernetes writes them."""

    key: str = Field(min_length=1)
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _values_belong_to_the_operator(self) -> "Requirement":
        wants_values = self.operator in {"In", "NotIn"}
        if wants_values and not self.values:
            raise ValueError(f"operator {self.operator} needs at least one of `values`")
        if not wants_values and self.values:
            raise ValueError(f"operator {self.operator} takes no `values`: remove them")
        return self

    def allows(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` fulfil it; an absent label fulfils NotIn, as in Kubernetes."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelectorFilter:
    """label-selector-filter: keeps endpoints whose labels fulfil a Kubernetes label selector.

    Formula: every label of matchLabels equal, and every one of matchExpressions (In, NotIn, Exists,
    DoesNotExist) true; an empty selector keeps all.
    Parameters: matchLabels (label to value, default none), matchExpressions (list of key, operator,
    values; default none).
    Reads: labels.
    Example:
        - type: label-selector-filter
          parameters:
            matchLabels: {gpu: h100}
            matchExpressions: [{key: tier, operator: NotIn, values: [spot]}]
    """

    type: ClassVar[str] = "label-selector-filter"

    class Params(PluginParams):
        match_labels: dict[str, str] = Field(default_factory=dict)
        match_expressions: list[Requirement] = Field(default_factory=list)

    def __init__(self, params: Params) -> None:
        self._labels = tuple(params.match_labels.items())
        self._requirements = params.match_expressions
        self._rule = LabelRule(self._allows)

    def filter(self, request: Request, pool: PoolView) -> Mask:
        return self._rule.mask(pool)

    def _allows(self, labels: Mapping[str, str]) -> bool:
        equal = all(labels.get(name) == value for name, value in self._labels)
        return equal and all(requirement.allows(labels) for requirement in self._requirements)


class ByLabelFilter:
    """by-label: keeps endpoints by one label; deprecated, label-selector-filter says the same.

    Formula: the label's value is one of validValues, or the label is absent and allowsNoLabel.
    Parameters: label (its name), validValues (list, default none), allowsNoLabel (default false).
    Reads: labels.
    Example:
        - type: by-label
          parameters: {label: gpu, validValues: [h100, h200], allowsNoLabel: true}
    """

    type: ClassVar[str] = "by-label"
    deprecated: ClassVar[str] = "use label-selector-filter"

    class Params(PluginParams):
        label: str = Field(min_length=1)
        valid_values: list[str] = Field(default_factory=list)
        allows_no_label: bool = False

        @model_validator(mode="after")
        def _keeps_something(self) -> "ByLabelFilter.Params":
            if not self.valid_values and not self.allows_no_label:
                raise ValueError("give at least one of `validValues`, or set `allowsNoLabel`")
            return self

    def __init__(self, params: Params) -> None:
        self._label = params.label
        self._valid = frozenset(params.valid_values)
        self._without = params.allows_no_label
        self._rule = LabelRule(self._allows)

    def filter(self, request: Request, pool: PoolView) -> Mask:
        return self._rule.mask(pool)

    def _allows(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self._label)
        return self._without if value is None else value in self._valid
