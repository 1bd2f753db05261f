"""The plugin instances of a configuration: types resolved, parameters typed, names looked up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from epp.config.catalogue import Catalogue, PluginClass, points_of
from epp.config.load import validate
from epp.config.outside import file_plugins
from epp.config.params import Reference, ToProducer
from epp.config.problems import Path as Where
from epp.config.problems import Problems, suggestion
from epp.config.schema import PluginEntry
from epp.errors import ConfigError

Origin = Literal["file", "injected"]


@dataclass(slots=True, frozen=True)
class Planned:
    """One plugin instance to be built."""

    name: str
    plugin: PluginClass
    params: BaseModel | None
    path: Where = ()
    """Where it is written; empty for one that was injected."""
    because: str = ""
    """Why it was injected."""
    file: str | None = None
    """The Python file its class was loaded from, where the configuration names one."""

    @property
    def type(self) -> str:
        return str(self.plugin.type)

    @property
    def origin(self) -> Origin:
        return "file" if self.path else "injected"

    @property
    def points(self) -> tuple[str, ...]:
        return points_of(self.plugin)

    @property
    def references(self) -> tuple[Reference, ...]:
        refers = getattr(self.params, "refers", None)
        return tuple(refers()) if refers else ()

    @property
    def consumes(self) -> tuple[str, ...]:
        """What it reads of whoever writes it."""
        unnamed = (r.wants for r in self.references if isinstance(r, ToProducer) and not r.name)
        return (*getattr(self.plugin, "consumes", ()), *unnamed)

    @property
    def produces(self) -> tuple[str, ...]:
        """What it writes for everybody."""
        return tuple(getattr(self.plugin, "produces", ()))

    @property
    def writes(self) -> tuple[str, ...]:
        """What it writes, for whoever names it too."""
        return (*self.produces, *getattr(self.plugin, "produces_named", ()))

    def where(self, reference: Reference) -> Where:
        """The place of a parameter; that of the plugin for one that was injected."""
        return (*self.path, "parameters", *reference.path) if self.path else ()


@dataclass(slots=True)
class Instances:
    """Instances by name, in order; iterating gives those that could be resolved."""

    catalogue: Catalogue
    problems: Problems
    used: set[str] = field(default_factory=set)
    """Names that something refers to."""
    _by_name: dict[str, Planned | None] = field(default_factory=dict)

    @classmethod
    def of(
        cls, entries: Sequence[PluginEntry], catalogue: Catalogue, problems: Problems
    ) -> "Instances":
        """Resolve the `plugins` list; what is wrong with an entry goes to `problems`."""
        instances = cls(catalogue, problems)
        for i, entry in enumerate(entries):
            instances._add(entry, ("plugins", i))
        return instances

    def __iter__(self) -> Iterator[Planned]:
        return (planned for planned in tuple(self._by_name.values()) if planned)

    @property
    def broken(self) -> bool:
        """Whether an entry could not be resolved, so that something else may be missing for it."""
        return None in self._by_name.values()

    def __contains__(self, name: str) -> bool:
        """Whether an entry has this name, be it one that could not be resolved."""
        return name in self._by_name

    def refer(self, name: str, path: Where, *points: str) -> Planned | None:
        """The instance called `name`, which must take part at one of `points`; None if it cannot.

        None also stands for an instance whose own entry is wrong: that is noted there.
        """
        if name not in self._by_name:
            self.problems.add(path, self._unknown(name))
            return None
        self.used.add(name)
        planned = self._by_name[name]
        if planned and points and not set(points) & set(planned.points):
            wanted, is_a = " or ".join(points), " and ".join(planned.points)
            self.problems.add(path, f"{name!r} is no {wanted}; the type {planned.type} is a {is_a}")
            return None
        return planned

    def inject(self, type_name: str, because: str) -> Planned | None:
        """An instance of `type_name`: a configured one, else a new one with default parameters.

        None where the catalogue has no such type.
        """
        plugin = self.catalogue.find(type_name)
        if plugin is None:
            return None
        for planned in self:
            if planned.plugin is plugin:
                self.used.add(planned.name)
                return planned
        name = type_name if type_name not in self._by_name else f"{type_name}-default"
        return self.inject_as(name, plugin, because)

    def inject_as(self, name: str, plugin: PluginClass, because: str) -> Planned:
        """A new instance with default parameters, under a name that is free."""
        model = getattr(plugin, "Params", None)
        params = validate(model, {}, (plugin.type,), self.problems) if model else None
        planned = Planned(name, plugin, params, because=because)
        self._by_name[name] = planned
        self.used.add(name)
        return planned

    def _add(self, entry: PluginEntry, path: Where) -> None:
        name = entry.instance
        if name in self._by_name:
            self.problems.add(path, f"a plugin named {name!r} exists; give this one another name")
            return
        self._by_name[name] = None
        plugin = self._class(entry, path)
        if plugin is None:
            return
        before = len(self.problems)
        params = self._params(plugin, entry, path)
        planned = Planned(name, plugin, params, path, file=entry.file)
        if len(self.problems) == before and self._can_be_asked(planned):
            self._by_name[name] = planned

    def _can_be_asked(self, planned: Planned) -> bool:
        """Whether a plugin's own code tells what its parameters name."""
        try:
            return planned.references is not None
        except Exception as fault:  # noqa: BLE001 - told with its place
            said = f"{type(fault).__name__}: {fault}"
            self.problems.add(planned.path, f"refers of {planned.type} fails: {said}")
            return False

    def _class(self, entry: PluginEntry, path: Where) -> PluginClass | None:
        if entry.file is not None:
            return self._class_of_file(entry, entry.file, path)
        plugin = self.catalogue.find(entry.type)
        if plugin is None:
            self.problems.add((*path, "type"), self.catalogue.unknown(entry.type))
        elif plugin.type != entry.type:
            self.problems.warn(
                (*path, "type"), f"{entry.type} is a deprecated name; write {plugin.type}"
            )
        elif old := getattr(plugin, "deprecated", ""):
            self.problems.warn((*path, "type"), f"{entry.type} is deprecated: {old}")
        elif idle := getattr(plugin, "idle", ""):
            self.problems.warn((*path, "type"), f"{entry.type} does nothing here: {idle}")
        return plugin

    def _class_of_file(self, entry: PluginEntry, file: str, path: Where) -> PluginClass | None:
        try:
            offered = {plugin.type: plugin for plugin in file_plugins(self._beside(file))}
        except ConfigError as fault:
            for problem in fault.problems:
                self.problems.add((*path, "file"), problem)
            return None
        if entry.type not in offered:
            near = suggestion(entry.type, offered)
            self.problems.add((*path, "type"), f"{file} defines no {entry.type!r}; {near}")
        return offered.get(entry.type)

    def _beside(self, file: str) -> Path:
        """The file's path; a relative one starts at the configuration's folder."""
        return Path(self.problems.place.origin).parent / file

    def _params(self, plugin: PluginClass, entry: PluginEntry, path: Where) -> BaseModel | None:
        model = getattr(plugin, "Params", None)
        if model is None:
            if entry.parameters:
                self.problems.add(
                    (*path, "parameters"), f"{plugin.type} takes no parameters; remove them"
                )
            return None
        params: BaseModel | None = validate(
            model, entry.parameters, (*path, "parameters"), self.problems
        )
        return params

    def _unknown(self, name: str) -> str:
        if self.catalogue.find(name):
            return f"no plugin is named {name!r}; add '- type: {name}' under plugins"
        return f"no plugin is named {name!r}; {suggestion(name, self._by_name)}"
