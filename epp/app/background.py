"""What runs beside the requests: one that dies is told, begun again, and takes nothing with it."""

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

from structlog.typing import FilteringBoundLogger

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Begins a task's work, from the start each time it is called."""

ENDING: Final = frozenset({"election"})
"""Whose death ends the process: without its election it might lead beside another."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between a death and the next begin, twice as long each time."""
RECOVERED: Final = 300.0
"""Seconds of life after which a task's earlier deaths are forgotten."""


class Background:
    """Owns the long tasks of one process, from `own` to `cancel`.

    What a dead task kept fresh ages until it runs again, and requests go on being placed. For those
    that may not go on without it, `ended` is called with the task's name; `died` counts deaths.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        ended: Callable[[str], None],
        died: Callable[[str], None] | None = None,
        *,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self._log = log
        self._ended = ended
        self._died = died
        self._first_pause = first_pause
        self._tasks: list[asyncio.Task[None]] = []

    def own(self, work: Work, name: str) -> None:
        """Run `work` until it ends or `cancel`; if it dies, again after a pause."""
        self._tasks.append(asyncio.create_task(self._keep(work, name), name=name))

    async def cancel(self) -> None:
        """End all of them, the youngest first."""
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _keep(self, work: Work, name: str) -> None:
        loop = asyncio.get_running_loop()
        pause = self._first_pause
        while True:
            began = loop.time()
            error = await _death_of(work)
            if error is None:
                return
            if loop.time() - began >= RECOVERED:
                pause = self._first_pause
            self._tell(name, error, pause)
            if name in ENDING:
                self._ended(name)
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _tell(self, name: str, error: Exception, pause: float) -> None:
        cause = first_of(error)
        self._log.error(
            "background task died",
            task=name,
            error=type(cause).__name__,
            trace="".join(traceback.format_tb(cause.__traceback__)),
            again_in=None if name in ENDING else pause,
        )
        if self._died is not None:
            self._died(name)


async def _death_of(work: Work) -> Exception | None:
    """What ended the work, None if it came to its end."""
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - told with its place
        return error
    return None


def first_of(error: BaseException) -> BaseException:
    """The first error inside a group of groups; the error itself where it is none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
