"""Keeps label values few, whatever clients send.

The first names to come are kept, up to a limit; later ones become `other`. Names we know from the
configuration or from model servers are pinned: they are always shown as themselves, so a client
that invents names can use up the limit for unknown names but never push out a known one.
"""

from collections.abc import Iterable
from typing import Final

OTHER: Final = "other"
LONGEST: Final = 256
"""Characters of a label value; a longer name counts as `other`."""


class LabelCap:
    """At most `limit` distinct unknown values, first come first kept, and any pinned ones."""

    def __init__(self, limit: int = 1000, pinned: Iterable[str] = ()) -> None:
        self._limit = limit
        self._pinned = {OTHER, ""}
        self._seen: set[str] = set()
        self.pin(pinned)

    def pin(self, names: Iterable[str]) -> None:
        """These are known: show them even when the limit is used up, and free their places."""
        self._pinned.update(name for name in names if len(name) <= LONGEST)
        self._seen -= self._pinned

    def knows(self, name: str) -> bool:
        """Whether `name` is pinned."""
        return name in self._pinned

    def shown(self, name: str) -> str:
        """`name` where it is shown already, else `other`; takes no place."""
        return name if name in self._pinned or name in self._seen else OTHER

    def __call__(self, name: str) -> str:
        """`name` itself while there is room for it, else `other`."""
        if name in self._pinned or name in self._seen:
            return name
        if len(self._seen) >= self._limit or len(name) > LONGEST:
            return OTHER
        self._seen.add(name)
        return name
