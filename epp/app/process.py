"""The process around one picker: its loop, its signals, its one line of output, its memory.

Nothing here knows a room of the picker; `picker.py` does.
"""

import asyncio
import gc
import json
import signal
import sys

import uvloop
from structlog.typing import FilteringBoundLogger

from epp.app.picker import Picker
from epp.config.options import RunOptions
from epp.observe.logs import LibraryLogs, build_log


def run(options: RunOptions) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Raises ConfigError or OSError when the picker cannot start.
    """
    log = build_log(sys.stderr, encoder=options.log_encoder, verbosity=options.verbosity)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(options, log))


async def serve(options: RunOptions, log: FilteringBoundLogger) -> int:
    """Start, say so, wait for a signal, drain."""
    libraries = LibraryLogs(log, options.verbosity)
    libraries.install()
    try:
        stop = Stop()
        picker = Picker(options, log, failed=stop.fail)
        try:
            await picker.start()
            settle_memory()
            announce(picker, log)
            await stop.asked.wait()
            await drained(picker, stop)
        finally:
            await picker.close()
        return stop.status
    finally:
        libraries.remove()


def announce(picker: Picker, log: FilteringBoundLogger) -> None:
    """Print the ready line, once: now, or at the first moment the picker is ready.

    A picker that waits for its pool or for its turn to lead has ports and answers on them; the log
    says which.
    """

    def look() -> None:
        if picker.readiness.ready:
            leave()
            print(json.dumps({"ready": True, **picker.ports}), flush=True)  # noqa: T201 - contract

    leave = picker.readiness.watch(look)
    if not picker.readiness.ready:
        log.info("not ready yet", why=picker.readiness.why, **picker.ports)
    look()


class Stop:
    """Whether to stop: SIGTERM and SIGINT ask for a drain, a second one for an end at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        self.status = 0
        """Of the process: 1 once something has failed that it cannot go on without."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask)

    def fail(self, name: str) -> None:
        """Task `name` has died and the process may not go on without it."""
        self.status = 1
        self.asked.set()

    def _ask(self) -> None:
        (self.at_once if self.asked.is_set() else self.asked).set()


async def drained(picker: Picker, stop: Stop) -> None:
    """Ends with the drain, or in the middle of it when asked to."""
    drain = asyncio.create_task(picker.drain())
    hurry = asyncio.create_task(stop.at_once.wait())
    await asyncio.wait((drain, hurry), return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if not drain.done():
        drain.cancel()
    await asyncio.wait((drain, hurry))
    if not drain.cancelled():
        drain.result()


def settle_memory() -> None:
    """Tell the garbage collector that what is there now stays.

    What a request leaves behind is freed by counting references; looking for cycles among all that
    the picker knows each 700 objects costs 4 % of a request (two pickers in turns, the same load).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
