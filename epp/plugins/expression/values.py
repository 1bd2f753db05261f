"""What expressions are made of when they run: values, and what operators and functions do."""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

Value: TypeAlias = int | float | bool | str | Mapping[str, "Value"] | None
"""Numbers are 64-bit integers and doubles; a bool is no number."""
Names: TypeAlias = Mapping[str, Value]
Expression: TypeAlias = Callable[[Names], Value]
"""What an expression comes to for named values. Raises EvaluationError."""

LARGEST_INT: Final = 2**63 - 1
SMALLEST_INT: Final = -(2**63)


class ExpressionError(ValueError):
    """A text that is no expression, or uses what is not offered; says where and what."""


class EvaluationError(Exception):
    """An expression that comes to nothing for these values."""


def kind(value: Value) -> str:
    """The type of a value, as CEL calls it."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "double"
        case str():
            return "string"
    return "map"


def is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_int(number: int) -> int:
    """`number`, if it fits into 64 bits."""
    if not SMALLEST_INT <= number <= LARGEST_INT:
        raise EvaluationError("a number does not fit into 64 bits")
    return number


# -- operators ------------------------------------------------------------------------------------


def calculate(sign: str, left: Value, right: Value) -> Value:
    """`+ - * / %` of two numbers: integers stay integers, with a double it is a double."""
    if not (is_number(left) and is_number(right)):
        raise EvaluationError(f"{sign!r} takes numbers, not {kind(left)} and {kind(right)}")
    assert isinstance(left, int | float)
    assert isinstance(right, int | float)
    if isinstance(left, int) and isinstance(right, int):
        return as_int(INTEGERS[sign](left, right))
    if sign == "%":
        raise EvaluationError("'%' takes integers; write int(...)")
    return DOUBLES[sign](float(left), float(right))


def _quotient(left: int, right: int) -> int:
    """Division cuts towards zero, as in C."""
    if right == 0:
        raise EvaluationError("division by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _remainder(left: int, right: int) -> int:
    return left - right * _quotient(left, right)


def _ratio(left: float, right: float) -> float:
    if right:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


INTEGERS: Final[Mapping[str, Callable[[int, int], int]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _quotient,
    "%": _remainder,
}
DOUBLES: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _ratio,
}


def equal(left: Value, right: Value) -> bool:
    """Numbers by their value, anything else only with its own kind."""
    if is_number(left) and is_number(right):
        return left == right
    return kind(left) == kind(right) and left == right


ORDERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compare(sign: str, left: Value, right: Value) -> bool:
    """`< <= > >=` of two numbers, two texts or two bools."""
    same = kind(left) == kind(right) and isinstance(left, bool | str)
    if not same and not (is_number(left) and is_number(right)):
        raise EvaluationError(f"{sign!r} cannot compare {kind(left)} and {kind(right)}")
    return ORDERS[sign](left, right)  # type: ignore[arg-type]  # texts compare as numbers do


def negative(value: Value) -> Value:
    if not is_number(value):
        raise EvaluationError(f"'-' takes a number, not {kind(value)}")
    assert isinstance(value, int | float)
    return as_int(-value) if isinstance(value, int) else -value


def truth(value: Value, sign: str) -> bool:
    """The value as a condition: a bool and nothing else."""
    if isinstance(value, bool):
        return value
    raise EvaluationError(f"{sign!r} takes a bool, not {kind(value)}")


# -- fields ---------------------------------------------------------------------------------------


def field(value: Value, name: Value) -> Value:
    """The field `name` of a map."""
    if not isinstance(name, str):
        raise EvaluationError(f"a field is named by a string, not {kind(name)}")
    if not holds(name, value):
        raise EvaluationError(f"no such field: {name}")
    assert isinstance(value, Mapping)
    return value[name]


def holds(name: Value, value: Value) -> bool:
    """Whether a map has the field `name`."""
    if not isinstance(value, Mapping):
        raise EvaluationError(f"fields are of maps, not of {kind(value)}")
    return isinstance(name, str) and name in value


# -- functions ------------------------------------------------------------------------------------


def to_int(value: Value) -> int:
    """`int(x)`: doubles are cut towards zero."""
    match value:
        case bool() | None:
            pass
        case int():
            return value
        case float() if math.isfinite(value):
            return as_int(int(value))
    raise EvaluationError(f"int() cannot convert {kind(value)}")


def to_double(value: Value) -> float:
    """`double(x)`."""
    if is_number(value):
        assert isinstance(value, int | float)
        return float(value)
    raise EvaluationError(f"double() cannot convert {kind(value)}")


def size(value: Value) -> int:
    """`size(x)`: characters of a text, fields of a map."""
    if isinstance(value, str | Mapping):
        return len(value)
    raise EvaluationError(f"size() is of strings and maps, not of {kind(value)}")


FUNCTIONS: Final[Mapping[str, Callable[[Value], Value]]] = {
    "int": to_int,
    "double": to_double,
    "size": size,
}
