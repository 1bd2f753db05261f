"""YAML or JSON text becomes plain values and line numbers, within limits.

Reads what a JSON document can say: mappings with text keys, lists, text, numbers, true, false and
null. Aliases are expanded, but not beyond a fixed size; tags, merge keys and repeated keys are
refused. A null value counts as not written, as it does for the Go pickers.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeAlias

import yaml

from epp.config.problems import Path, Place
from epp.errors import ConfigError

MAX_BYTES: Final = 1 << 20
MAX_NODES: Final = 50_000
MAX_DEPTH: Final = 40

Value: TypeAlias = Any
"""dict, list, str, int, float, bool or None."""

_INT: Final = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT: Final = re.compile(
    r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,3})?"
)
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(slots=True, frozen=True)
class Document:
    """A parsed text: its value and the line (from 1) of each path in it."""

    value: Value
    place: Place


def read(text: str | bytes, origin: str) -> Document:
    """Parse one YAML or JSON document; `origin` names it in messages.

    Raises ConfigError when it cannot be read or goes over a limit.
    """
    decoded = _decode(text, origin)
    reader = _Reader(origin)
    try:
        value = reader.document(yaml.parse(decoded, Loader=_LOADER))
    except yaml.MarkedYAMLError as fault:
        line = fault.problem_mark.line + 1 if fault.problem_mark is not None else 1
        raise ConfigError([f"{origin}:{line}: is not YAML: {fault.problem}"]) from None
    except (yaml.YAMLError, UnicodeError) as fault:
        reason = str(fault).splitlines()[0][:200]
        raise ConfigError([f"{origin}: is not YAML: {reason}"]) from None
    return Document(value, Place(origin, reader.lines))


_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _decode(text: str | bytes, origin: str) -> str:
    if len(text) > MAX_BYTES:
        raise ConfigError([f"{origin}: is larger than {MAX_BYTES} bytes; a configuration is small"])
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as fault:
        raise ConfigError([f"{origin}: is not UTF-8 text (byte {fault.start})"]) from None
    # JSON may be indented with tabs, which YAML forbids; a tab inside a JSON text is written \t.
    return decoded.replace("\t", " ") if decoded.lstrip().startswith("{") else decoded


@dataclass(slots=True, frozen=True)
class _Anchored:
    """A value that aliases may repeat, with what repeating it costs."""

    value: Value
    nodes: int
    height: int


@dataclass(slots=True)
class _Reader:
    """Builds values from parser events; one use."""

    origin: str
    lines: dict[Path, int] = field(default_factory=dict)
    _anchors: dict[str, _Anchored] = field(default_factory=dict)
    _nodes: int = 0

    def document(self, events: Iterator[yaml.Event]) -> Value:
        value: Value = None
        seen = False
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and seen:
                self._refuse(event, "holds a second document; one file is one configuration")
            if isinstance(event, yaml.NodeEvent):
                value, seen = self._node(event, events, ()), True
        return value

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], path: Path) -> Value:
        self.lines.setdefault(path, _line(event))
        self._count(event, 1)
        if len(path) > MAX_DEPTH:
            self._refuse(event, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, len(path))
        before = self._nodes
        value = self._value(event, events, path)
        if anchor := getattr(event, "anchor", None):
            self._anchors[anchor] = _Anchored(value, self._nodes - before + 1, _height(value))
        return value

    def _value(self, event: yaml.Event, events: Iterator[yaml.Event], path: Path) -> Value:
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!" and not tag.startswith("tag:yaml.org,2002:str"):
            self._refuse(event, f"has the tag {tag[:60]!r}; tags are not read, write plain values")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, path)
        assert isinstance(event, yaml.ScalarEvent)
        return event.value if tag is not None or event.style else _plain(event.value)

    def _mapping(self, events: Iterator[yaml.Event], path: Path) -> dict[str, Value]:
        found: dict[str, Value] = {}
        keys: set[str] = set()
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, path)
            if key in keys:
                self._refuse(event, f"the key {key[:60]!r} stands here twice; remove one", path)
            keys.add(key)
            value = self._node(next(events), events, (*path, key))
            if value is not None:
                found[key] = value
        return found

    def _key(self, event: yaml.Event, path: Path) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse(event, "a key must be text", path)
        if event.value == "<<" and not event.style:
            self._refuse(event, "merge keys are not read; write the keys out", path)
        self.lines[(*path, event.value)] = _line(event)
        return str(event.value)

    def _sequence(self, events: Iterator[yaml.Event], path: Path) -> list[Value]:
        found: list[Value] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            found.append(self._node(event, events, (*path, len(found))))
        return found

    def _alias(self, event: yaml.AliasEvent, depth: int) -> Value:
        anchored = self._anchors.get(event.anchor or "")
        if anchored is None:
            self._refuse(event, f"the alias *{(event.anchor or '')[:60]} is not defined above")
        if depth + anchored.height > MAX_DEPTH:
            self._refuse(event, f"is nested deeper than {MAX_DEPTH} levels")
        self._count(event, anchored.nodes)
        return anchored.value

    def _count(self, event: yaml.Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._refuse(event, f"expands to more than {MAX_NODES} values")

    def _refuse(self, event: yaml.Event, what: str, path: Path = ()) -> NoReturn:
        raise ConfigError([Place(self.origin, {path: _line(event)}).says(path, what)])


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


def _height(value: Value) -> int:
    """Levels of nesting below and with `value`."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_height, value), default=0) if isinstance(value, list) else 1


def _plain(text: str) -> Value:
    """An unquoted scalar: null, true, false, a number, or else text (dates and `on` are text)."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
