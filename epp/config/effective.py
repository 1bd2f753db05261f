"""The effective configuration: every value that will be in force, and where each came from."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from epp.config.instances import Planned
from epp.config.plan import Plan
from epp.config.problems import Path
from epp.config.profiles import PlannedProfile
from epp.config.queues import NOTHING_WRITTEN
from epp.config.schema import GATES, EndpointPickerConfig
from epp.config.text import Value


@dataclass(slots=True, frozen=True)
class Source:
    """Where a value came from; `line` for one from the file, `because` for one injected."""

    kind: Literal["file", "default", "injected"]
    line: int | None = None
    because: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "file":
                return f"line {self.line}" if self.line else "file"
            case "injected":
                return f"injected: {self.because}"
            case _:
                return "default"


@dataclass(slots=True, frozen=True)
class Effective:
    """A whole configuration that can be loaded again, with nothing left to defaults."""

    value: dict[str, Value]
    injected: dict[Path, str]
    """Paths of what was injected (all beneath included), and why."""
    plan: Plan

    def source(self, path: Path) -> Source:
        """Where the value at `path` came from."""
        for end in range(len(path), 0, -1):
            if because := self.injected.get(path[:end]):
                return Source("injected", because=because)
        if path in self.plan.loaded.written:
            return Source("file", line=self.plan.loaded.place.line(path))
        return Source("default")

    def leaves(self) -> Iterator[tuple[Path, Value, Source]]:
        """Every value that is no mapping or list, in order."""
        return ((path, value, self.source(path)) for path, value in _leaves(self.value, ()))


def effective(plan: Plan) -> Effective:
    """What is in force under `plan`."""
    config, injected = plan.loaded.config, _Injected({})
    value = _dump(config)
    value["featureGates"] = _gates(config)
    value["plugins"] = [injected.plugin(i, p) for i, p in enumerate(plan.plugins)]
    value["schedulingProfiles"] = [injected.profile(i, p) for i, p in enumerate(plan.profiles)]
    value["requestHandler"] = {"parsers": injected.parsers(plan)}
    value["dataLayer"] = {**value["dataLayer"], "sources": injected.sources(plan)}
    if plan.detector:
        flow = value.setdefault("flowControl", _dump(NOTHING_WRITTEN))
        if "saturationDetector" not in flow:
            flow["saturationDetector"] = {"pluginRef": plan.detector.name}
            injected.paths["flowControl", "saturationDetector"] = (
                plan.detector.because or "only one"
            )
    return Effective(value, injected.paths, plan)


def _gates(config: EndpointPickerConfig) -> list[Value]:
    """Written gates first, so that each stands where it was written."""
    named = [gate.partition("=")[0] for gate in config.feature_gates]
    order = dict.fromkeys([*(name for name in named if name in GATES), *GATES])
    return [f"{gate}={str(config.gate(gate)).lower()}" for gate in order]


@dataclass(slots=True)
class _Injected:
    """Turns planned things back into written ones, noting what nobody wrote."""

    paths: dict[Path, str]

    def plugin(self, at: int, planned: Planned) -> Value:
        if not planned.path:
            self.paths["plugins", at] = planned.because
        entry: dict[str, Value] = {"name": planned.name, "type": planned.type}
        if planned.file:
            entry["file"] = planned.file
        if planned.params is not None:
            entry["parameters"] = _dump(planned.params)
        return entry

    def profile(self, at: int, planned: PlannedProfile) -> Value:
        path: Path = ("schedulingProfiles", at)
        if not planned.path:
            self.paths[path] = "no profile is written"
        if planned.picker and planned.picker.name not in planned.written:
            self.paths[(*path, "plugins", len(planned.written))] = (
                f"profile {planned.name} names no picker"
            )
        weights = {scorer.name: weight for scorer, weight in planned.scorers}
        members = [{"pluginRef": name} for name in planned.members()]
        plugins = [
            {**m, "weight": weights[m["pluginRef"]]} if m["pluginRef"] in weights else m
            for m in members
        ]
        return {"name": planned.name, "plugins": plugins}

    def parsers(self, plan: Plan) -> Value:
        if not plan.loaded.config.request_handler.parsers:
            self.paths["requestHandler", "parsers"] = "no parser is listed"
        return [{"pluginRef": parser.name} for parser in plan.parsers]

    def sources(self, plan: Plan) -> Value:
        listed = len(plan.loaded.config.data_layer.sources)
        for at in range(listed, len(plan.sources)):
            self.paths["dataLayer", "sources", at] = "dataLayer.injectDefaults"
        return [
            {
                "pluginRef": one.source.name,
                "extractors": [{"pluginRef": extractor.name} for extractor in one.extractors],
            }
            for one in plan.sources
        ]


def as_yaml(shown: Effective) -> str:
    """YAML that loads to the same plan; each value is followed by where it came from."""
    return "\n".join(_lines(shown, shown.value, (), "")) + "\n"


def _lines(shown: Effective, value: Value, path: Path, indent: str) -> Iterator[str]:
    items: list[tuple[str, Path, Value]]
    if isinstance(value, dict):
        items = [(f"{_scalar(key)}:", (*path, key), item) for key, item in value.items()]
    else:
        items = [("-", (*path, i), item) for i, item in enumerate(value)]
    for head, where, item in items:
        if isinstance(item, dict | list) and item:
            deeper = list(_lines(shown, item, where, indent + "  "))
            if head == "-":
                yield f"{indent}- {deeper[0].lstrip()}"
                yield from deeper[1:]
            else:
                yield f"{indent}{head}"
                yield from deeper
        else:
            yield f"{indent}{head} {_scalar(item)}  # {shown.source(where)}"


def _scalar(value: Value) -> str:
    """A value as JSON writes it, which YAML reads; plain words without quotes."""
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalpha():
        return value if value.lower() not in ("true", "false", "null") else json.dumps(value)
    return json.dumps(value)


def _dump(model: BaseModel) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _leaves(value: Value, path: Path) -> Iterator[tuple[Path, Value]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for i, item in enumerate(value):
            yield from _leaves(item, (*path, i))
    else:
        yield path, value
