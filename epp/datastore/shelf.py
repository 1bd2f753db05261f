"""Where plugins keep what they learned, so that a reload of the configuration does not lose it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

S = TypeVar("S")
ShelfKey: TypeAlias = tuple[str, str, str, str]
"""Plugin name, plugin type, name of the state, shape."""


@runtime_checkable
class HearsRemovals(Protocol):
    """State that is told when an endpoint goes, before its slot is given to another."""

    def on_removed(self, slot: int) -> None: ...


class Shelf:
    """The part of the shelves that one plugin sees; implements `points.StateShelf`."""

    __slots__ = ("_plugin", "_states", "used")

    def __init__(self, states: dict[ShelfKey, Any], plugin_name: str, plugin_type: str) -> None:
        self._states = states
        self._plugin = (plugin_name, plugin_type)
        self.used: set[ShelfKey] = set()

    def keep(self, name: str, make: Callable[[], S], *, shape: str = "") -> S:
        """The state under (plugin, `name`, `shape`), made on first use."""
        key = (*self._plugin, name, shape)
        if key not in self._states:
            self._states[key] = make()
        self.used.add(key)
        return cast("S", self._states[key])


class Shelves:
    """All kept state. Holds it until `clear_unused` says which shelves are still in use."""

    def __init__(self) -> None:
        self._states: dict[ShelfKey, Any] = {}

    def shelf(self, plugin_name: str, plugin_type: str) -> Shelf:
        """A view on the state of one plugin; two of the same plugin see the same state."""
        return Shelf(self._states, plugin_name, plugin_type)

    def clear_unused(self, in_use: Iterable[Shelf]) -> int:
        """Drop state that none of `in_use` asked for; returns how much was dropped."""
        wanted = set[ShelfKey]().union(*(shelf.used for shelf in in_use))
        unused = self._states.keys() - wanted
        for key in unused:
            del self._states[key]
        return len(unused)

    def removal_hearers(self) -> Iterator[Callable[[int], None]]:
        """What to call with the slot of an endpoint that has gone."""
        for state in list(self._states.values()):
            if isinstance(state, HearsRemovals):
                yield state.on_removed
