"""Keeps a plugin's failure to itself: what it would have said is lost, the request is not.

For plugins that inform: producers, scorers, observers. A filter, an admitter or a picker that
fails is not replaced by a guess: that request ends in a 500 with an id.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from epp.errors import Refused

Failed: TypeAlias = Callable[[Exception], None]
"""Hears what a plugin raised."""

NOTHING: Final[Mapping[str, Any]] = {}

TOLERATED: Final[Mapping[str, Any]] = {
    "fact-producer": None,
    "pool-producer": NOTHING,
    "scorer": None,
    "pick-observer": None,
    "response-observer": None,
    "usage-reader": None,
    "end-observer": None,
}
"""Extension points whose failures cost information alone, and what a failed call comes to."""


class Tolerant:
    """A plugin some of whose methods never raise; everything else is the plugin's own."""

    def __init__(self, plugin: Any, methods: Iterable[str], instead: Any, failed: Failed) -> None:
        self._plugin = plugin
        for name in methods:
            vars(self)[name] = tolerant(getattr(plugin, name), instead, failed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plugin, name)


def tolerant(call: Callable[..., Any], instead: Any, failed: Failed) -> Callable[..., Any]:
    """`call`, answering `instead` where it raises anything but a refusal.

    An awaitable it returns is watched to its end.
    """

    def guarded(*arguments: Any) -> Any:
        try:
            said = call(*arguments)
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it is told
            failed(error)
            return instead
        return _watched(said, failed) if hasattr(said, "__await__") else said

    return guarded


async def _watched(waiting: Awaitable[None], failed: Failed) -> None:
    try:
        await waiting
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        failed(error)
