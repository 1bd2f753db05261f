"""A workload: what a client says its requests belong to, and how critical they are."""

from typing import Any, Final

import msgspec

from epp.domain.headers import WORKLOAD, Headers, first_of

LEAST, USUAL, MOST = 1, 3, 5
"""Criticality: 5 is the most important; 3 is that of requests that do not say."""
LONGEST_ID: Final = 128
LONGEST_HEADER: Final = 1024


class Workload(msgspec.Struct, frozen=True):
    """`id` is empty where none was given."""

    id: str = ""
    criticality: int = USUAL


NO_WORKLOAD: Final = Workload()


class _Said(msgspec.Struct):
    workload_id: Any = None
    criticality: Any = None


_decode = msgspec.json.Decoder(_Said).decode


def workload_of(headers: Headers) -> Workload:
    """What the header `x-workload-context` says: `{"workload_id": ..., "criticality": 1..5}`.

    Never raises: what is missing, too long or unreadable is as if it was not said, a number out of
    range is clamped.
    """
    if WORKLOAD[0] not in headers:
        return NO_WORKLOAD
    text = first_of(headers, WORKLOAD)
    if text is None or len(text) > LONGEST_HEADER:
        return NO_WORKLOAD
    try:
        said = _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return NO_WORKLOAD
    return Workload(_id(said.workload_id), _criticality(said.criticality))


def _id(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_ID or not value.isprintable():
        return ""
    return value.strip()


def _criticality(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return USUAL
    return int(min(max(value, LEAST), MOST))
