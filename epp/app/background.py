"""What runs beside the requests: one that dies is told, and takes nothing else with it."""

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

ENDING: Final = frozenset({"election"})
"""Whose death ends the process: without its election it might lead beside another."""


class Background:
    """Owns the long tasks of one process, from `own` to `cancel`.

    What a dead task kept fresh ages from then on, and requests go on being placed; for those that
    may not go on, `ended` is called with the task's name.
    """

    def __init__(self, log: FilteringBoundLogger, ended: Callable[[str], None]) -> None:
        self._log = log
        self._ended = ended
        self._tasks: list[asyncio.Task[None]] = []

    def own(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` until it ends or `cancel`."""
        self._tasks.append(asyncio.create_task(self._run(work, name), name=name))

    async def cancel(self) -> None:
        """End all of them, the youngest first."""
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - logged with its place
            cause = first_of(error)
            self._log.error(
                "background task died",
                task=name,
                error=type(cause).__name__,
                trace="".join(traceback.format_tb(cause.__traceback__)),
            )
            if name in ENDING:
                self._ended(name)


def first_of(error: BaseException) -> BaseException:
    """The first error inside a group of groups; the error itself where it is none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
