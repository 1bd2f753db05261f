"""What a /metrics page offers: families, types, label names, and the values of labels that are
lists of kinds. Sample values and help texts are left out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from check_sim.shapes import Shape

KINDS = frozenset({"reason", "stage", "sleep_state", "finished_reason", "source", "le"})
"""Labels whose values are part of the form."""
SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
SUFFIXES = ("_bucket", "_count", "_sum")


def page_of(text: str) -> Shape:
    """family -> {"type": ..., "labels": {name: values, or [] where they are free}}."""
    families: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            families[name] = {"kind": kind, "labels": {}}
        elif line and not line.startswith("#"):
            _note(families, line)
    return {name: _finished(family) for name, family in sorted(families.items())}


def samples_of(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The values of one sample name by the values of its labels of kinds."""
    found: dict[tuple[str, ...], float] = {}
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match and match[1] == name:
            kinds = [value for label, value in LABEL.findall(match[2] or "") if label in KINDS]
            found[tuple(kinds)] = float(match[3])
    return found


def _note(families: dict[str, Any], line: str) -> None:
    match = SAMPLE.match(line)
    if match is None:
        raise ValueError(f"no sample: {line!r}")
    name = match[1]
    family = families.get(name) or families.get(_stem(name))
    if family is None:
        raise ValueError(f"a sample without a TYPE line: {name}")
    for label, value in LABEL.findall(match[2] or ""):
        family["labels"].setdefault(label, set()).add(value)


def _stem(name: str) -> str:
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def _finished(family: dict[str, Any]) -> Shape:
    labels = family["labels"]
    shown = {
        name: ",".join(sorted(labels[name])) if name in KINDS else "any" for name in sorted(labels)
    }
    return {"kind": family["kind"], "labels": shown}
