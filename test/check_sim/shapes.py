"""What an answer looks like once its words are taken away, and where two looks differ.

A shape is JSON: "null", "bool", "int", "float", "string" or "string=word" for a value, "int|null"
where elements of one list differ, an object of shapes, or a list of the one shape all its elements
have together. Shapes are what is kept of real vLLM (`test/testdata/vllm-*.json`), so they say
nothing about times, ids or tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Shape = Any

TELLING = frozenset(
    {
        "object",
        "type",
        "role",
        "finish_reason",
        "stop_reason",
        "status",
        "param",
        "code",
        "owned_by",
    }
)
"""Keys whose value is part of the form: clients branch on it."""
PREFIXED = frozenset({"id", "request_id", "item_id", "response_id"})
"""Keys whose value begins with a kind, such as chatcmpl-."""
BY_WORD = frozenset({"top_logprobs", "prompt_logprobs", "attrs", "metadata"})
"""Keys of objects whose own keys are words or token ids."""
ABSENT = "absent"


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One place where the simulator is not as vLLM is."""

    where: str
    real: str
    simulated: str


def shape_of(value: Any, key: str = "") -> Shape:
    """The shape of a JSON value that stands under `key`."""
    if isinstance(value, dict):
        if key in BY_WORD and "logprob" not in value:
            return {"*": united(shape_of(inner) for inner in value.values())}
        return {name: shape_of(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [united(shape_of(inner, key) for inner in value)] if value else []
    return _scalar(value, key)


def _scalar(value: Any, key: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"bool={value}" if key in TELLING else "bool"
    if isinstance(value, (int, float)):
        kind = "int" if isinstance(value, int) else "float"
        return f"{kind}={value}" if key in TELLING else kind
    if key in TELLING:
        return f"string={value}"
    prefix = _prefix(value) if key in PREFIXED else ""
    return f"string={prefix}" if prefix else "string"


def _prefix(text: str) -> str:
    """The kind an id begins with, up to its first - or _, empty when it has none."""
    for place, letter in enumerate(text):
        if letter in "-_":
            return text[: place + 1]
    return ""


def united(shapes: Iterable[Shape]) -> Shape:
    """One shape for values that stand in the same place."""
    found: Shape = None
    for shape in shapes:
        found = shape if found is None else _union(found, shape)
    return "none" if found is None else found


def _union(left: Shape, right: Shape) -> Shape:
    if left == right:
        return left
    if isinstance(left, dict) and isinstance(right, dict):
        names = dict.fromkeys([*left, *right])
        return {name: _union(left.get(name, ABSENT), right.get(name, ABSENT)) for name in names}
    if isinstance(left, list) and isinstance(right, list):
        return [united([*left, *right])]
    kinds = {part for shape in (left, right) for part in told(shape).split("|")}
    return "|".join(sorted(kinds))


def runs(shapes: Iterable[Shape]) -> list[Shape]:
    """The sequence with equal neighbours counted once: one step is as good as many."""
    kept: list[Shape] = []
    for shape in shapes:
        if not kept or kept[-1] != shape:
            kept.append(shape)
    return kept


def differences(real: Shape, simulated: Shape, where: str = "") -> Iterator[Difference]:
    """Every place, deepest first found, where the two shapes differ."""
    if isinstance(real, dict) and isinstance(simulated, dict):
        for name in dict.fromkeys([*real, *simulated]):
            below = f"{where}.{name}" if where else name
            yield from differences(real.get(name, ABSENT), simulated.get(name, ABSENT), below)
    elif isinstance(real, list) and isinstance(simulated, list):
        yield from _between_lists(real, simulated, where)
    elif real != simulated:
        yield Difference(where, told(real), told(simulated))


def _between_lists(real: list[Shape], simulated: list[Shape], where: str) -> Iterator[Difference]:
    """Element by element where there are as many, else as wholes."""
    if len(real) == len(simulated):
        for place, (left, right) in enumerate(zip(real, simulated, strict=True)):
            below = f"{where}[{place}]" if len(real) > 1 else f"{where}[]"
            yield from differences(left, right, below)
        return
    if not (where.endswith(".events") and _hurried(real, simulated)):
        yield Difference(where, told(real), told(simulated))


def _hurried(real: list[Shape], simulated: list[Shape]) -> bool:
    """Whether real vLLM, when slow, put tokens of several events into one: its stream is the
    simulator's without some unnamed events between the first and the last."""
    if len(real) < 2 or real[0] != simulated[0] or real[-1] != simulated[-1]:
        return False
    rest = iter(real)
    wanted = next(rest)
    for shape in simulated:
        if shape == wanted:
            wanted = next(rest, None)
        elif isinstance(shape, dict) and "event" in shape:
            return False
    return wanted is None


def told(shape: Shape) -> str:
    """The shape in one short line."""
    return shape if isinstance(shape, str) else json.dumps(shape, sort_keys=True)
