"""Logs: one line of JSON for each event worth a line, none for each request.

Levels follow Go's verbosity: 0 and 1 warnings, 2 and 3 (the default is 2) also what was refused and
what changed, 4 and more all of our own, 6 and more what libraries say in detail. A prompt never
comes near a log line.
"""

import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TextIO, TypeAlias

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from epp.domain.clock import Clock
from epp.domain.request import Head, Request
from epp.errors import InternalFault, Refused

Encoder: TypeAlias = Literal["json", "console"]
Later: TypeAlias = Callable[[float, Callable[[], None]], object]
"""`asyncio.AbstractEventLoop.call_later`, or something like it."""

LONGEST_MESSAGE: Final = 300
FAULTS_FOR_ONE: Final = 10
"""So many of our own faults are written where one refusal is: each has an id a client was given."""


def level_of(verbosity: int) -> int:
    """The standard level for a Go verbosity."""
    if verbosity >= 4:
        return logging.DEBUG
    return logging.INFO if verbosity >= 2 else logging.WARNING


def level_of_libraries(verbosity: int) -> int:
    """A library's information lines are detail to us, and its own detail is a line for each byte.

    Deployments of the Go pickers commonly ask for 4, and are to pay for no such lines.
    """
    if verbosity >= 6:
        return logging.DEBUG
    return logging.INFO if verbosity >= 4 else logging.WARNING


def build_log(
    stream: TextIO, *, encoder: Encoder = "json", verbosity: int = 2
) -> FilteringBoundLogger:
    """A logger that writes lines to `stream`. It is handed to whoever logs; nothing is global."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=processors(encoder, colors=stream.isatty()),
        wrapper_class=structlog.make_filtering_bound_logger(level_of(verbosity)),
        cache_logger_on_first_use=True,
    )
    return logger


def processors(encoder: Encoder, *, colors: bool = False) -> list[Processor]:
    """What an event goes through; times are UTC in ISO 8601."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if encoder == "console":
        # A plain traceback: the pretty one prints local variables, and with them prompts.
        plain = structlog.dev.plain_traceback
        return [
            *shared[:-1],
            structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain),
        ]
    return [*shared, structlog.processors.JSONRenderer()]


class LibraryLogs(logging.Handler):
    """Puts what libraries log through the standard module into ours."""

    def __init__(self, log: FilteringBoundLogger, verbosity: int = 2) -> None:
        super().__init__(level_of_libraries(verbosity))
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        told = {"logger": record.name}
        self._log.log(record.levelno, record.getMessage(), exc_info=record.exc_info, **told)

    def install(self) -> None:
        """Receive what every library logs; called by the composition root alone."""
        root = logging.getLogger()
        root.addHandler(self)
        root.setLevel(self.level)

    def remove(self) -> None:
        logging.getLogger().removeHandler(self)


@dataclass(slots=True)
class Second:
    """How many refusals of one reason came since `began`, and how many were not written."""

    began: float
    written: int = 0
    unwritten: int = 0


class RefusalLog:
    """One line for each refusal, as long as they are few.

    Of each reason the first `per_second` in a second are written (ten times as many of our own
    faults); the rest are counted and said in one line when the second is over, so that a flood of
    refusals cannot drown the log.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        *,
        clock: Clock,
        later: Later | None = None,
        per_second: int = 5,
    ) -> None:
        self._log = log
        self._clock = clock
        self._later = later
        self._per_second = per_second
        self._seconds: dict[str, Second] = {}

    def refused(
        self,
        request: Request | None,
        refusal: Refused,
        seconds: float,
        head: Head | None = None,
    ) -> None:
        """Note a refusal that came `seconds` after its request; `head` if that is all there is."""
        name = refusal.reason or refusal.code
        second = self._second(name)
        weight = FAULTS_FOR_ONE if isinstance(refusal, InternalFault) else 1
        if second.written < self._per_second * weight:
            second.written += 1
            self._write(about(request) or about_unread(head), refusal, seconds)
            return
        second.unwritten += 1
        if second.unwritten == 1 and self._later is not None:
            self._later(1.0, self.flush)

    def flush(self) -> None:
        """Say how many were not written, of every reason whose second is over."""
        now = self._clock()
        for name, second in list(self._seconds.items()):
            if now - second.began >= 1.0:
                self._sum_up(name, second)
                del self._seconds[name]

    def close(self) -> None:
        """Say the rest, whether its second is over or not."""
        for name, second in self._seconds.items():
            self._sum_up(name, second)
        self._seconds.clear()

    def _second(self, name: str) -> Second:
        now = self._clock()
        second = self._seconds.get(name)
        if second is not None and now - second.began < 1.0:
            return second
        if second is not None:
            self._sum_up(name, second)
        second = self._seconds[name] = Second(now)
        return second

    def _sum_up(self, name: str, second: Second) -> None:
        if second.unwritten:
            self._log.info("more requests refused", reason=name, count=second.unwritten)

    def _write(self, whose: Mapping[str, object], refusal: Refused, seconds: float) -> None:
        say = self._log.error if isinstance(refusal, InternalFault) else self._log.info
        say(
            "request refused",
            status=refusal.status,
            code=refusal.code,
            reason=refusal.reason,
            message=refusal.message[:LONGEST_MESSAGE],
            seconds=round(seconds, 6),
            **about_fault(refusal),
            **whose,
        )


def about_fault(refusal: Refused) -> dict[str, object]:
    """What a log line says of a fault of our own: what broke and where, never what it says: that
    may quote a body."""
    if not isinstance(refusal, InternalFault):
        return {}
    told: dict[str, object] = {"fault_id": refusal.fault_id}
    if (cause := refusal.__cause__) is not None:
        told["error"] = type(cause).__name__
        told["trace"] = "".join(traceback.format_tb(cause.__traceback__))
    return told


def about(request: Request | None) -> dict[str, object]:
    """What a log line says of a request: names and numbers, nothing of its body."""
    if request is None:
        return {}
    return {
        "request_id": request.id,
        "client_request_id": request.headers.get("x-request-id", "")[:LONGEST_MESSAGE],
        "kind": request.kind,
        "model": request.model[:LONGEST_MESSAGE],
        "priority": request.priority,
    }


def about_unread(head: Head | None) -> dict[str, object]:
    """What a log line says of a request of which the head alone is known; never its query."""
    if head is None:
        return {}
    return {
        "client_request_id": head.headers.get("x-request-id", "")[:LONGEST_MESSAGE],
        "method": head.method[:LONGEST_MESSAGE],
        "path": head.path[:LONGEST_MESSAGE],
    }
