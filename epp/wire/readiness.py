"""Whether new work should come here: named conditions, all of which must hold, and no drain."""

from collections.abc import Callable


class Readiness:
    """Ready when every condition is met and no drain has begun. Watchers hear of every change.

    Conditions are named by who constructs it (`synced`, `leading`); none means ready at once.
    """

    def __init__(self, *conditions: str) -> None:
        self._missing = dict.fromkeys(conditions, "not yet")
        self._draining = False
        self._watchers: dict[object, Callable[[], None]] = {}

    @property
    def ready(self) -> bool:
        """New work should come here."""
        return not self._missing and not self._draining

    @property
    def draining(self) -> bool:
        """The process is on its way out; there is no way back."""
        return self._draining

    @property
    def why(self) -> str:
        """What is missing, for people; empty when ready."""
        if self._draining:
            return "draining"
        return "; ".join(f"{name}: {why}" for name, why in self._missing.items())

    def met(self, condition: str) -> None:
        """`condition` holds from now on."""
        if self._missing.pop(condition, None) is not None:
            self._changed()

    def unmet(self, condition: str, why: str) -> None:
        """`condition` does not hold, for people: `why`."""
        if self._missing.get(condition) != why:
            self._missing[condition] = why
            self._changed()

    def drain(self) -> None:
        """Not ready, for good."""
        if not self._draining:
            self._draining = True
            self._changed()

    def watch(self, hear: Callable[[], None]) -> Callable[[], None]:
        """Call `hear` at every change; returns what ends that."""
        token = object()
        self._watchers[token] = hear

        def leave() -> None:
            self._watchers.pop(token, None)

        return leave

    def _changed(self) -> None:
        for hear in tuple(self._watchers.values()):
            hear()
