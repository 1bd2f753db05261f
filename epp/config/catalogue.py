"""Which plugin types there are: a value, built by listing classes; nothing registers itself."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

from epp import points
from epp.config.problems import suggestion
from epp.errors import ConfigError

PluginClass: TypeAlias = type[Any]

METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    "parser": ("parse",),
    "header-processor": ("identity",),
    "fact-producer": ("gather",),
    "saturation-detector": ("saturation",),
    "ordering-policy": ("lane", "key", "rank", "share"),
    "fairness-policy": ("choose",),
    "usage-limit-policy": ("ceilings",),
    "dispatch-observer": ("dispatched",),
    "screener": ("screen",),
    "pool-producer": ("columns",),
    "admitter": ("admit",),
    "profile-handler": ("next_profiles", "primary"),
    "filter": ("filter",),
    "scorer": ("score",),
    "picker": ("pick",),
    "pick-observer": ("picked",),
    "response-observer": ("response_started",),
    "usage-reader": ("used",),
    "reporter": ("report",),
    "end-observer": ("ended",),
}
"""Extension points in the order a request meets them, and the methods that make a class one."""


@dataclass(slots=True, frozen=True)
class Refusal:
    """A type that other pickers have and this one leaves out: why, and what to use instead."""

    type: str
    reason: str
    instead: str = ""

    def __str__(self) -> str:
        return f"{self.reason}; {self.instead}" if self.instead else self.reason


@dataclass(slots=True, frozen=True)
class Kind:
    """What stands under a name that plugins declare: the type of a fact or a column."""

    of: str
    """In the plural, such as "latency predictions"; things of one kind come from one producer."""
    fact: bool = False
    """Of the request, gathered before admission; else a column of the pool, made after it."""

    def __str__(self) -> str:
        return f"{self.of} ({'facts of a request' if self.fact else 'columns of the pool'})"

    @property
    def point(self) -> str:
        """Where whoever writes it has to take part."""
        return "fact-producer" if self.fact else "pool-producer"


@dataclass(slots=True, frozen=True)
class Catalogue:
    """Plugin classes by type, in the order they were listed. Build one with `Catalogue.of`."""

    classes: Mapping[str, PluginClass]
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Deprecated type name to the type that replaces it."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    default_producers: Mapping[str, str] = field(default_factory=dict)
    """Name of a column or fact to the type that is added where it is consumed and not made."""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """Name of a column or fact to what it is; one that is not here is of a kind of its own."""

    @classmethod
    def of(
        cls,
        classes: Iterable[PluginClass],
        *,
        aliases: Mapping[str, str] | None = None,
        refusals: Iterable[Refusal] = (),
        default_producers: Mapping[str, str] | None = None,
        kinds: Mapping[str, Kind] | None = None,
    ) -> "Catalogue":
        """A catalogue of `classes`. Raises ConfigError on a repeated or malformed class."""
        empty = cls(
            {},
            aliases=dict(aliases or {}),
            refusals={refusal.type: refusal for refusal in refusals},
            default_producers=dict(default_producers or {}),
            kinds=dict(kinds or {}),
        )
        return empty.plus(classes)

    def plus(self, classes: Iterable[PluginClass], origin: str = "the catalogue") -> "Catalogue":
        """This catalogue and `classes`. Raises ConfigError on a repeated or malformed class."""
        known = dict(self.classes)
        problems = []
        for plugin in classes:
            if fault := malformed(plugin):
                name = getattr(plugin, "__qualname__", repr(plugin)[:60])
                problems.append(f"{origin}: {name}: {fault}")
            elif known.get(plugin.type, plugin) is not plugin:
                problems.append(
                    f"{origin}: {plugin.__qualname__}: the type {plugin.type!r} is taken by "
                    f"{known[plugin.type].__qualname__}; choose another"
                )
            else:
                known[plugin.type] = plugin
        if problems:
            raise ConfigError(problems)
        return replace(self, classes=known)

    def find(self, type_name: str) -> PluginClass | None:
        """The class of a type or of its deprecated name; None if there is none."""
        return self.classes.get(self.aliases.get(type_name, type_name))

    def unknown(self, type_name: str) -> str:
        """What to say to somebody who asks for a type that is not here."""
        if refusal := self.refusals.get(type_name):
            return f"the plugin type {type_name!r} is not offered: {refusal}"
        near = suggestion(type_name, self.classes)
        return f"unknown plugin type {type_name!r}; {near}"

    def offering(self, point: str) -> tuple[PluginClass, ...]:
        """The classes that take part at `point`, in catalogue order."""
        return tuple(c for c in self.classes.values() if point in points_of(c))


def points_of(plugin: PluginClass) -> tuple[str, ...]:
    """Where a class takes part: by its methods, and by `point` where a room has a kind of its own.

    A class that configures a room (a data source, a discovery) has no method of `epp.points`; it
    names its kind in a class attribute `point` such as `data-source`.
    """
    found = tuple(
        point for point, methods in METHODS.items() if all(_has(plugin, name) for name in methods)
    )
    own = getattr(plugin, "point", None)
    return found if own is None or own in found else (*found, own)


def malformed(plugin: Any) -> str | None:
    """What keeps an object from being a plugin's class, with the fix; None if nothing does."""
    if not isinstance(plugin, type):
        return "is not a class"
    name = getattr(plugin, "type", None)
    if not isinstance(name, str) or not name:
        return "has no type; add a class attribute such as type = 'my-scorer'"
    if not points_of(plugin):
        return "takes part nowhere; give it a method of epp/points.py, such as score or filter"
    if _waits(plugin):
        return "has an async method; plugins never wait, but for gather"
    return _malformed_methods(plugin) or _malformed_constructor(plugin) or _malformed_names(plugin)


def _malformed_methods(plugin: PluginClass) -> str | None:
    """A method that cannot take what it will be given would fail at each request."""
    for name, asked in _arguments_by_method().items():
        method = getattr(plugin, name, None)
        if not inspect.isfunction(method) or not _is_called(plugin, name):
            continue
        try:
            inspect.signature(method).bind(*asked)
        except TypeError:
            return f"write def {name}({', '.join(asked)}): that is what it is called with"
    return None


def _is_called(plugin: PluginClass, method: str) -> bool:
    return any(method in METHODS.get(point, ()) for point in points_of(plugin))


@cache
def _arguments_by_method() -> Mapping[str, tuple[str, ...]]:
    """What each method of `METHODS` is called with, self first, as `epp.points` declares it."""
    named = {name for names in METHODS.values() for name in names}
    return {
        name: tuple(inspect.signature(method).parameters)
        for point in vars(points).values()
        if isinstance(point, type)
        for name, method in vars(point).items()
        if name in named and inspect.isfunction(method)
    }


def _malformed_constructor(plugin: PluginClass) -> str | None:
    wanted = constructor_arguments(plugin)
    if extra := wanted - {"params", "tools"}:
        return f"its constructor asks for {', '.join(sorted(extra))}; only params and tools exist"
    model = getattr(plugin, "Params", None)
    if model is not None and not (isinstance(model, type) and issubclass(model, BaseModel)):
        return "its Params is no model; inherit from epp.config.params.PluginParams"
    if model is not None and "params" not in wanted:
        return "has Params, but its constructor does not take params"
    if model is None and "params" in wanted:
        return "its constructor takes params, but the class has no Params"
    return None


def _malformed_names(plugin: PluginClass) -> str | None:
    for attribute in ("consumes", "produces", "produces_named"):
        names = getattr(plugin, attribute, ())
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            return f"{attribute} must be a tuple of names"
    return None


def constructor_arguments(plugin: PluginClass) -> set[str]:
    """Names of the arguments a plugin's constructor must be given or may take by name."""
    if plugin.__init__ is object.__init__:
        return set()
    parameters = list(inspect.signature(plugin.__init__).parameters.values())[1:]
    return {
        p.name
        for p in parameters
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        and (p.name in ("params", "tools") or p.default is p.empty)
    }


def _has(plugin: PluginClass, method: str) -> bool:
    return callable(getattr(plugin, method, None))


def _waits(plugin: PluginClass) -> bool:
    methods = {name for names in METHODS.values() for name in names} - {"gather"}
    return any(inspect.iscoroutinefunction(getattr(plugin, name, None)) for name in methods)
