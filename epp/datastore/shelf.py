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


@runtime_checkable
class HearsFirstTokens(Protocol):
    """State that is told when the first token of an answer is seen, by our id of the request."""

    def on_first_token(self, request_id: str) -> None: ...


class Shelf:
    """The part of the shelves that one plugin sees; implements `points.StateShelf`."""

    __slots__ = ("_made", "_plugin", "_states", "used")

    def __init__(
        self,
        states: dict[ShelfKey, Any],
        plugin_name: str,
        plugin_type: str,
        made: Callable[[], None],
    ) -> None:
        """`made` is called after a state was."""
        self._states = states
        self._made = made
        self._plugin = (plugin_name, plugin_type)
        self.used: set[ShelfKey] = set()

    def keep(self, name: str, make: Callable[[], S], *, shape: str = "") -> S:
        """The state under (plugin, `name`, `shape`), made on first use."""
        key = (*self._plugin, name, shape)
        if key not in self._states:
            self._states[key] = make()
            self._made()
        self.used.add(key)
        return cast("S", self._states[key])


class Shelves:
    """All kept state. Holds it until `clear_unused` says which shelves are still in use."""

    def __init__(self) -> None:
        self._states: dict[ShelfKey, Any] = {}
        self.first_token_hearers: tuple[Callable[[str], None], ...] = ()
        """What to call with our id of a request whose first token was seen."""

    def shelf(self, plugin_name: str, plugin_type: str) -> Shelf:
        """A view on the state of one plugin; two of the same plugin see the same state."""
        return Shelf(self._states, plugin_name, plugin_type, self._look)

    def clear_unused(self, in_use: Iterable[Shelf]) -> int:
        """Drop state that none of `in_use` asked for; returns how much was dropped."""
        wanted = set[ShelfKey]().union(*(shelf.used for shelf in in_use))
        unused = self._states.keys() - wanted
        for key in unused:
            del self._states[key]
        self._look()
        return len(unused)

    def _look(self) -> None:
        """Find out once who hears what comes with every request."""
        states = self._states.values()
        hearers = (state.on_first_token for state in states if isinstance(state, HearsFirstTokens))
        self.first_token_hearers = tuple(hearers)

    def removal_hearers(self) -> Iterator[Callable[[int], None]]:
        """What to call with the slot of an endpoint that has gone."""
        for state in list(self._states.values()):
            if isinstance(state, HearsRemovals):
                yield state.on_removed
