"""The reporter of numbers made of token counts."""

import math
from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import Field, field_validator

from epp.config.params import PluginParams
from epp.domain.decision import Decision
from epp.domain.headers import LB_NAMESPACE
from epp.domain.path import Json
from epp.domain.request import Request
from epp.domain.response import Usage
from epp.plugins.expression import EvaluationError, Expression, Value, compiled

USAGE: Final = "usage"


class Key(PluginParams):
    """Where a number is put in the dynamic metadata."""

    namespace: str = LB_NAMESPACE
    name: str = Field(min_length=1)

    @field_validator("namespace")
    @classmethod
    def _empty_means_the_default(cls, namespace: str) -> str:
        return namespace or LB_NAMESPACE


class Attribute(PluginParams):
    """One number: where it goes, how it is made, and when."""

    key: Key
    expression: str = Field(min_length=1)
    condition: str = ""

    @field_validator("expression", "condition")
    @classmethod
    def _can_be_read(cls, text: str) -> str:
        if text:
            compiled(text, (USAGE,))
        return text


class RequestAttributeReporter:
    """request-attribute-reporter: tells the gateway a number made of a response's token counts.

    Formula: number = expression, if condition is true or left out. Both are in CEL over `usage`,
    whose fields are prompt_tokens, completion_tokens, total_tokens and, where the engine says it,
    prompt_tokens_details.cached_tokens (prompt_token_details too). Of CEL there are numbers, texts,
    true, false, null, fields, `+ - * / %`, comparison, `in`, `&& || !`, `? :`, has, size, int and
    double; the rest is refused when the configuration is read.
    Parameters: attributes (a list of exactly one: key (namespace, default envoy.lb, and name),
    expression, condition (default none)).
    Reads: usage, so it says nothing unless the gateway shows response bodies. Writes: dynamic
    metadata of the response, on its last message.
    Differs from the Go picker: integers and doubles mix; a response without token counts is not
    reported, where the Go picker says 0.
    Example:
        - type: request-attribute-reporter
          parameters:
            attributes:
            - key: {name: x-gateway-inference-request-cost}
              expression: usage.prompt_tokens + usage.completion_tokens
              condition: has(usage.completion_tokens)
    """

    type: ClassVar[str] = "request-attribute-reporter"

    class Params(PluginParams):
        attributes: list[Attribute] = Field(min_length=1, max_length=1)

    def __init__(self, params: Params) -> None:
        (attribute,) = params.attributes
        self._key = attribute.key
        self._expression = compiled(attribute.expression, (USAGE,))
        self._condition: Expression = _always
        if attribute.condition:
            self._condition = compiled(attribute.condition, (USAGE,))

    def report(
        self, request: Request, decision: Decision, usage: Usage
    ) -> Mapping[str, Mapping[str, Json]]:
        names = {USAGE: fields_of(usage)}
        if self._condition(names) is not True:
            return {}
        return {self._key.namespace: {self._key.name: self._number(names)}}

    def _number(self, names: Mapping[str, Value]) -> float:
        """A whole number, cut towards zero. Raises EvaluationError."""
        found = self._expression(names)
        if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
            return float(math.trunc(found))
        raise EvaluationError(f"{self._key.name}: the expression came to no number")


def _always(names: Mapping[str, Value]) -> Value:
    return True


def fields_of(usage: Usage) -> Mapping[str, Value]:
    """Token counts as expressions see them: doubles, as numbers of JSON are."""
    fields: dict[str, Value] = {
        "prompt_tokens": float(usage.prompt_tokens),
        "completion_tokens": float(usage.completion_tokens),
        "total_tokens": float(usage.prompt_tokens + usage.completion_tokens),
    }
    if usage.cached_tokens is not None:
        details: Mapping[str, Value] = {"cached_tokens": float(usage.cached_tokens)}
        fields |= {"prompt_tokens_details": details, "prompt_token_details": details}
    return fields
