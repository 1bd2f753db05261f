"""Limits of the wire as a command line gives them: `max_pings=1000`, `idle_timeout=10m`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from epp.config.problems import suggestion
from epp.config.units import format_duration, parse_duration, parse_quantity
from epp.errors import ConfigError
from epp.wire.limits import LIMIT_NAMES, TIMES, Limits, range_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FLAG: Final = "--wire-limit"
FOLLOWING: Final[Mapping[str, str]] = {
    "max_message_size": "--max-body-bytes",
    "max_assembling": "--max-held-bytes",
}
"""Limits that follow a flag of their own."""
GRPCIO: Final = ("max_streams", "idle_timeout", "keepalive_interval", "keepalive_timeout")
"""Those that grpc.aio has as well; the rest it decides by itself."""


def read_limits(pairs: Sequence[str], wire: str, given: Limits | None = None) -> Limits:
    """`given` (or the defaults) with every `name=value` of `pairs`; the last of a name counts.

    Counts and sizes are quantities, times are durations. Raises ConfigError with every problem:
    unknown names with the nearest one, values out of range, limits that `wire` does not have.
    """
    values: dict[str, float] = {}
    problems = []
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            values[name] = _value(name, text, wire)
        except ValueError as error:
            problems.append(f"{FLAG} {pair[:80]}: {error}")
    if problems:
        raise ConfigError(problems)
    return replace(given or Limits(), **values)  # type: ignore[arg-type]  # checked by name above


def written(name: str, value: float) -> str:
    """A limit's value as `read_limits` reads it: `64Ki`, `1000`, `30s`."""
    if TIMES[name]:
        return format_duration(value)
    for suffix, size in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if value and value % size == 0:
            return f"{int(value / size)}{suffix}"
    return str(int(value))


def _value(name: str, text: str, wire: str) -> float:
    if name not in LIMIT_NAMES:
        raise ValueError(f"no such limit; {suggestion(name, _settable(wire))}")
    if name in FOLLOWING:
        raise ValueError(f"follows {FOLLOWING[name]}; set that")
    if name not in _settable(wire):
        raise ValueError(f"--wire {wire} has no such limit; it has {', '.join(_settable(wire))}")
    if not text:
        raise ValueError(f"needs a value; write for example {name}={written(name, _default(name))}")
    value = parse_duration(text) if TIMES[name] else parse_quantity(text)
    least, most = range_of(name)
    if not least <= value <= most:
        raise ValueError(f"out of range; give {written(name, least)} to {written(name, most)}")
    return value


def _settable(wire: str) -> Sequence[str]:
    every = GRPCIO if wire == "grpcio" else LIMIT_NAMES
    return [name for name in every if name not in FOLLOWING]


def _default(name: str) -> float:
    value: float = getattr(Limits(), name)
    return value
