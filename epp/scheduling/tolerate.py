"""Keeps a plugin's failure to itself: what it would have said is lost, the request is not.

For plugins that inform: producers, scorers, observers. A filter, an admitter or a picker that
fails is not replaced by a guess: that request ends in a 500 with an id.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import perf_counter
from typing import Any, Final, TypeAlias

from epp.errors import Refused
from epp.scheduling.measure import Observe, Stand, timed_to_the_end

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
    "reporter": NOTHING,
    "end-observer": None,
}
"""Extension points whose failures cost information alone, and what a failed call comes to."""


class Tolerant(Stand):
    """A plugin some of whose methods never raise; `observe` hears the seconds of each call."""

    def __init__(
        self,
        plugin: Any,
        methods: Iterable[str],
        instead: Any,
        failed: Failed,
        observe: Observe | None = None,
    ) -> None:
        super().__init__(plugin)
        for name in methods:
            vars(self)[name] = tolerant(name, getattr(plugin, name), instead, failed, observe)


def tolerant(
    name: str, call: Callable[..., Any], instead: Any, failed: Failed, observe: Observe | None
) -> Callable[..., Any]:
    """`call`, answering `instead` where it raises anything but a refusal.

    Only `gather` may wait; what it waits for is watched, and timed, to its end.
    """
    if name == "gather":
        measured = call if observe is None else timed_to_the_end(call, observe)
        return watched_to_the_end(measured, failed)
    return guarded(call, instead, failed, observe or _nobody)


def guarded(
    call: Callable[..., Any], instead: Any, failed: Failed, observe: Observe
) -> Callable[..., Any]:
    """Measured and guarded by one wrapper: 0.3 us a call, by one for each 0.6
    (test/bench/bench_scheduling.py)."""

    def measured(*arguments: Any) -> Any:
        began = perf_counter()
        try:
            return call(*arguments)
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it is told
            failed(error)
            return instead
        finally:
            observe(perf_counter() - began)

    return measured


def watched_to_the_end(call: Callable[..., Any], failed: Failed) -> Callable[..., Any]:
    """The same for a call that may return an awaitable; a failed one says nothing."""

    def watched(*arguments: Any) -> Any:
        try:
            waiting = call(*arguments)
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            failed(error)
            return None
        return None if waiting is None else _finish(waiting, failed)

    return watched


async def _finish(waiting: Awaitable[None], failed: Failed) -> None:
    try:
        await waiting
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        failed(error)


def _nobody(seconds: float) -> None:
    return None
