"""Times the calls of a plugin, without the plugin or its caller knowing."""

from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter
from types import MethodType
from typing import Any, TypeAlias

Observe: TypeAlias = Callable[[float], None]
"""Hears the seconds one call took."""


class Stand:
    """Stands before a plugin; what a subclass does not put in its way is the plugin's own."""

    def __init__(self, plugin: Any) -> None:
        self._plugin = plugin

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._plugin, name)
        if isinstance(value, MethodType):
            # Found at once from now on: 0.04 us a look-up instead of 0.4.
            vars(self)[name] = value
        return value


class Observed(Stand):
    """A plugin with some of its methods timed.

    `by` wraps a call: `timed`, or `timed_to_the_end` where what it waits for counts too; None
    takes the one that suits the method.
    """

    def __init__(
        self,
        plugin: Any,
        methods: Iterable[str],
        observe: Observe,
        by: Callable[[Callable[..., Any], Observe], Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__(plugin)
        for name in methods:
            wrap = by or (timed_to_the_end if name == "gather" else timed)
            vars(self)[name] = wrap(getattr(plugin, name), observe)


def observed(plugin: Any, methods: Iterable[str], observe: Observe) -> Any:
    """`plugin` with every call of `methods` timed, whether it returns or raises.

    What `gather` waits for is timed to its end. Costs 0.3 us a call beside `observe`
    (test/bench/bench_scheduling.py).
    """
    return Observed(plugin, methods, observe)


def timed(call: Callable[..., Any], observe: Observe) -> Callable[..., Any]:
    """`call` with its duration told to `observe`."""

    def measured(*arguments: Any) -> Any:
        began = perf_counter()
        try:
            return call(*arguments)
        finally:
            observe(perf_counter() - began)

    return measured


def timed_to_the_end(call: Callable[..., Any], observe: Observe) -> Callable[..., Any]:
    """The same for a call that may return an awaitable: until that is done."""

    def measured(*arguments: Any) -> Any:
        began = perf_counter()
        waiting = None
        try:
            waiting = call(*arguments)
        finally:
            if waiting is None:
                observe(perf_counter() - began)
        return waiting and _finish(waiting, began, observe)

    return measured


async def _finish(waiting: Awaitable[Any], began: float, observe: Observe) -> Any:
    try:
        return await waiting
    finally:
        observe(perf_counter() - began)
