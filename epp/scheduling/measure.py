"""Times the calls of a plugin, without the plugin or its caller knowing."""

from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from time import perf_counter
from typing import Any, TypeAlias

Observe: TypeAlias = Callable[[float], None]
"""Hears the seconds one call took."""


class Observed:
    """A plugin with some of its methods timed; everything else is the plugin's own."""

    def __init__(self, plugin: Any, methods: Iterable[str], observe: Observe) -> None:
        self._plugin = plugin
        for name in methods:
            vars(self)[name] = timed(getattr(plugin, name), observe)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plugin, name)


def observed(plugin: Any, methods: Iterable[str], observe: Observe) -> Any:
    """`plugin` with every call of `methods` timed, whether it returns or raises.

    An awaitable that a method returns is timed to its end. Costs 0.3 us a call beside `observe`
    (test/bench/bench_scheduling.py).
    """
    return Observed(plugin, methods, observe)


def timed(call: Callable[..., Any], observe: Observe) -> Callable[..., Any]:
    """`call` with its duration told to `observe`."""

    def measured(*arguments: Any) -> Any:
        began = perf_counter()
        try:
            result = call(*arguments)
        except BaseException:
            observe(perf_counter() - began)
            raise
        if result.__class__ in _AT_ONCE or not isawaitable(result):
            observe(perf_counter() - began)
            return result
        return _finish(result, began, observe)

    return measured


_AT_ONCE = frozenset({type(None), tuple, list, dict, bool, float})


async def _finish(result: Awaitable[Any], began: float, observe: Observe) -> Any:
    try:
        return await result
    finally:
        observe(perf_counter() - began)
