"""Durations as Go writes them."""

from __future__ import annotations

import re

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PIECE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def seconds_of(text: str) -> float:
    """Seconds of a text such as `100ms` or `1m30s`; ValueError for anything else."""
    if not text or PIECE.sub("", text):
        raise ValueError(f"{text!r} is no duration; write it like 100ms or 1m30s")
    return sum(float(count) * UNITS[unit] for count, unit in PIECE.findall(text))


def go_duration(seconds: float) -> str:
    """The text that Go would read back: `250ms`, `1.5s`, `3µs`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{round(seconds / size, 6):g}{unit}"
    return f"{round(seconds / 1e-9):g}ns" if seconds else "0s"
