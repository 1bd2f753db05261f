"""A path that decides by what a request says in `x-test`: the same each time it is asked."""

import asyncio

from support.ext_proc import RecordingPath

from epp.domain.headers import HeaderChanges
from epp.errors import NoEndpoints
from epp.wire.budget import ByteBudget
from epp.wire.exchange import ExchangeLimits
from epp.wire.session import Process

LARGEST_BODY = 30_000
LARGEST_SUM = 200_000


class Script(RecordingPath):
    """`later` waits a moment, `wait` for ever, `change` puts another body, `break` is a bug."""

    def __init__(self, destination: str = "10.0.0.1:8000") -> None:
        super().__init__(self._decide)
        self.destination = destination

    def _decide(self, intake):
        match intake.head.headers.get("x-test", ""):
            case "refuse":
                raise NoEndpoints("no endpoint is ready")
            case "break":
                raise LookupError("a bug")
            case "wait":
                return asyncio.get_running_loop().create_future()
            case "later":
                return self._later()
            case "change":
                return self._placed(body=b'{"model": "other"}')
        return self._placed()

    async def _later(self):
        await asyncio.sleep(0.005)
        return self._placed()

    def _placed(self, **fields):
        ticket = self.ticket(destination=self.destination, **fields)
        ticket.response_changes = HeaderChanges(set={"x-epp-endpoint": self.destination})
        return ticket


class Silent:
    """Takes lines of log and keeps none."""

    def warning(self, event, *args, **fields): ...

    def error(self, event, *args, **fields): ...


def scripted(path: Script) -> Process:
    """The method `Process`, with one id for all that needs one."""
    return Process(
        path,
        budget=ByteBudget(LARGEST_SUM),
        limits=ExchangeLimits(max_body=LARGEST_BODY),
        new_id=lambda: "an-id",
        log=Silent(),
    )
