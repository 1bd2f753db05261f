"""An event loop without sockets or a clock: what waits in the picker waits in virtual time.

The picker's queue makes tasks, futures and timers. Here each of their steps is an entry of the
agenda, so that the code that serves runs as it is and one seed still gives one result.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, cast

from epp_lab.agenda import Agenda


class VirtualLoop:
    """What asyncio's futures and tasks ask of a loop, and timers, on an agenda. No more of it."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._loop = cast("asyncio.AbstractEventLoop", self)
        self._faults: list[BaseException] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within it this is the running loop."""
        before = events._get_running_loop()
        events._set_running_loop(self._loop)
        try:
            yield
        finally:
            events._set_running_loop(before)

    def time(self) -> float:
        return self._agenda.now

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._loop, context)
        self._agenda.put(self._agenda.now, self._run, handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._agenda.now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self._loop, context)
        self._agenda.put(when, self._run, timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays on the agenda and does nothing there."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._loop)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self._loop, **options)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a callback raised ends the run; see `_run`."""
        fault = context.get("exception")
        self._faults.append(fault or RuntimeError(str(context.get("message"))))

    def _run(self, handle: asyncio.Handle) -> None:
        """One entry of the agenda, unless it was taken back. Raises what it raised."""
        if not handle.cancelled():
            handle._run()
        if self._faults:
            raise self._faults[0]
