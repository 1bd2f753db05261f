"""Kubernetes quantities and Go durations, as configurations write them."""

import re
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainSerializer

_SUFFIXES: Final = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_QUANTITY: Final = re.compile(
    r"(?P<number>[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30}))"
    r"(?:[eE](?P<exponent>[+-]?[0-9]{1,2})|(?P<suffix>[numkMGTPE]|[KMGTPE]i)?)"
)
_LARGEST: Final = 2**63 - 1

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0}
_UNITS_LONG: Final = {"m": 60.0, "h": 3600.0}
_STEP: Final = re.compile(
    r"(?P<number>[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?P<unit>ns|us|µs|μs|ms|s|m|h)"
)


def parse_quantity(text: str) -> int:
    """The whole number a Kubernetes quantity stands for: `4Gi`, `20k`, `1G`, `1e3`, `0.5`.

    Fractions are rounded up, as Kubernetes does. Raises ValueError when `text` is no quantity, is
    negative, or is larger than 2^63 - 1.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a quantity; write for example 5000, 20k, 1G or 4Gi")
    value = Decimal(match["number"]) * _SUFFIXES[match["suffix"] or ""]
    if match["exponent"]:
        value = value.scaleb(int(match["exponent"]))
    whole = int(value.to_integral_value(ROUND_CEILING))
    if not 0 <= whole <= _LARGEST:
        raise ValueError(f"{text[:40]!r} is out of range; a quantity is 0 to {_LARGEST}")
    return whole


def format_quantity(whole: int) -> str:
    """A Kubernetes quantity that `parse_quantity` reads back, in the largest binary unit."""
    for suffix in ("Gi", "Mi", "Ki"):
        count, rest = divmod(whole, int(_SUFFIXES[suffix]))
        if count and not rest:
            return f"{count}{suffix}"
    return str(whole)


def parse_duration(text: str) -> float:
    """Seconds of a Go duration: `60s`, `1m30s`, `200ms`, `0s`, `1.5h`, `-2s`; `0` needs no unit.

    Raises ValueError when `text` is none.
    """
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    steps = list(_STEP.finditer(rest)) if len(rest) <= 100 else []
    if not steps or "".join(step[0] for step in steps) != rest:
        raise ValueError(f"{text[:40]!r} is not a duration; write for example 200ms, 60s or 1m30s")
    units = _UNITS | _UNITS_LONG
    return sign * sum(float(step["number"]) * units[step["unit"]] for step in steps)


def format_duration(seconds: float) -> str:
    """A Go duration that `parse_duration` reads back, in the largest unit that stays whole."""
    for unit, size in (("h", 3600.0), ("m", 60.0), ("s", 1.0)):
        if seconds % size == 0 and (seconds or unit == "s"):
            return f"{int(seconds / size)}{unit}"
    return f"{round(seconds * 1e9) / 1e6:.6f}".rstrip("0").rstrip(".") + "ms"


def _quantity(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("is not a quantity; write for example 5000, 20k, 1G or 4Gi")
    try:
        return parse_quantity(value if isinstance(value, str) else format(Decimal(str(value)), "f"))
    except InvalidOperation:
        raise ValueError("is not a finite quantity") from None


def _duration(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("is not a duration; write it with a unit, for example 60s or 200ms")
    return parse_duration(value)


Quantity = Annotated[int, BeforeValidator(_quantity)]
"""A field that reads a Kubernetes quantity; a plain number is taken as it stands."""

Duration = Annotated[
    float,
    BeforeValidator(_duration),
    Field(ge=0),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]
"""A field that reads a Go duration of 0 or more; its value is in seconds."""
