"""Text becomes a configuration, or one error that holds everything that is wrong with it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from epp.config.problems import Path, Place, Problems, suggestion
from epp.config.schema import API_VERSIONS, SILENT_GATES, EndpointPickerConfig
from epp.config.text import Value, read

MOST_SHOWN: Final = 100
"""Problems of one block that are put into words; a file has a handful, not thousands."""

_FIRST_LINES: Final[Mapping[Path, str]] = {
    ("apiVersion",): f"write apiVersion: {API_VERSIONS[0]}",
    ("kind",): "write kind: EndpointPickerConfig",
}
"""Fields of every configuration that have one value: the fix is the line itself."""


@dataclass(slots=True, frozen=True)
class LoadedConfig:
    """A configuration that fits the schema, and where each of its values stands."""

    config: EndpointPickerConfig
    place: Place
    written: frozenset[Path]
    """Paths of the values the user wrote; every other value is a default."""
    warnings: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        return self.place.origin


def load(text: str | bytes, origin: str) -> LoadedConfig:
    """Read one YAML or JSON configuration; `origin` (a file name) begins every message.

    Raises ConfigError with all problems at once, and nothing else, whatever the text is. What needs
    a catalogue (plugin types, parameters, references) is checked by `plan`.
    """
    document = read(text, origin)
    problems = Problems(document.place)
    if not isinstance(document.value, dict):
        problems.add((), "is no mapping; begin with apiVersion and kind")
        problems.raise_any()
    value, moved = _move_deprecated(document.value, problems)
    place = Place(origin, {**document.place.lines, **moved(document.place.lines)})
    problems.place = place
    config = _validated(value, problems)
    problems.raise_any()
    assert config is not None
    _look_back(config, problems)
    return LoadedConfig(config, place, frozenset(_paths(value, ())), tuple(problems.warnings))


def validate(model: type[BaseModel], value: Value, path: Path, problems: Problems) -> Any:
    """`value` as a `model`, read as strictly as JSON; None with every problem noted."""
    try:
        return model.model_validate_json(json.dumps(value), by_alias=True, by_name=False)
    except ValidationError as fault:
        errors = fault.errors(include_url=False)
        for error in errors[:MOST_SHOWN]:
            problems.add((*path, *error["loc"]), explain(model, error))
        if (more := len(errors) - MOST_SHOWN) > 0:
            problems.add(path, f"has {more} more problems of this kind; mend these first")
        return None


def _validated(value: Value, problems: Problems) -> EndpointPickerConfig | None:
    config: EndpointPickerConfig | None = validate(EndpointPickerConfig, value, (), problems)
    return config


def explain(model: type[BaseModel], error: ErrorDetails) -> str:
    """One pydantic error in words that hold the fix."""
    match error["type"]:
        case "extra_forbidden":
            *around, key = error["loc"]
            return f"unknown key; {suggestion(str(key), _keys_at(model, around))}"
        case "missing":
            return f"is missing; {_FIRST_LINES.get(error['loc'], 'add it')}"
        case "value_error":
            return str(error["ctx"]["error"])
        case "string_type":
            return f"must be text; write it in quotes (it is {_kind(error['input'])})"
        case _:
            message = error["msg"][:1].lower() + error["msg"][1:]
            return f"{message} (it is {_kind(error['input'])})"


def _kind(value: object) -> str:
    match value:
        case bool() | int() | float():
            return json.dumps(value)
        case str():
            return f"the text {value[:40]!r}"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return "empty"


def _keys_at(model: type[BaseModel], around: list[int | str]) -> list[str]:
    """The keys that are valid at a place of `model`."""
    found: type[BaseModel] | None = model
    for step in around:
        if found is not None and isinstance(step, str):
            found = next((_model_in(f.annotation) for f in _fields(found, step)), None)
    return [f.alias or name for name, f in found.model_fields.items()] if found else []


def _fields(model: type[BaseModel], key: str) -> Iterator[Any]:
    return (f for name, f in model.model_fields.items() if (f.alias or name) == key)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, tuple, list, dict):
        return next((m for a in get_args(annotation) if (m := _model_in(a))), None)
    return None


class _Moved:
    """Paths that were rewritten from an old place to the new one."""

    def __init__(self) -> None:
        self.steps: list[tuple[Path, Path]] = []

    def __call__(self, lines: Mapping[Path, int]) -> dict[Path, int]:
        """Lines of what was moved, under its new paths."""
        return {
            (*new, *path[len(old) :]): line
            for old, new in self.steps
            for path, line in lines.items()
            if path[: len(old)] == old
        }


_OLD_PLACES: Final[tuple[tuple[str, Path], ...]] = (
    ("saturationDetector", ("flowControl", "saturationDetector")),
    ("parser", ("requestHandler", "parsers", 0)),
)


def _move_deprecated(value: dict[str, Value], problems: Problems) -> tuple[Value, _Moved]:
    """Move what older configurations have at the top level to where it stands today."""
    moved = _Moved()
    value = dict(value)
    for old, new in _OLD_PLACES:
        if old not in value:
            continue
        block = value.get(str(new[0]), {})
        where = f"{new[0]}.{new[1]}"
        if not isinstance(block, dict) or new[1] in block:
            problems.add((old,), f"stands beside {where}, which replaces it; remove {old}")
            del value[old]
            continue
        problems.warn((old,), f"is deprecated; write it as {where}")
        moved.steps.append(((old,), new))
        written = value.pop(old)
        value[str(new[0])] = {**block, new[1]: [written] if len(new) == 3 else written}
    return value, moved


def _look_back(config: EndpointPickerConfig, problems: Problems) -> None:
    """Warn about what is read but old, or read but without effect."""
    if config.api_version != API_VERSIONS[0]:
        problems.warn(("apiVersion",), f"is an older name; write {API_VERSIONS[0]}")
    for i, gate in enumerate(config.feature_gates):
        if gate.partition("=")[0] in SILENT_GATES:
            problems.warn(("featureGates", i), f"{gate} has no effect any more; remove it")


def _paths(value: Value, path: Path) -> Iterator[Path]:
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _paths(item, (*path, i))
