"""A reflector kept going: carries out its steps against an API server until cancelled."""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from structlog.typing import FilteringBoundLogger

from epp.domain.clock import Clock
from epp.kube.api import Answer, Api, Unreachable
from epp.kube.reflector import Failure, HasMeta, Heard, List, Reflector, Trouble, Wait, Watch

T = TypeVar("T", bound=HasMeta)

LIST_SECONDS: Final = 30.0
SILENCE_SECONDS: Final = 90.0
"""A watch that brings nothing for so long is opened anew; bookmarks come about every minute."""
GATHER_SECONDS: Final = 0.02
"""Changes are told of at most so often: a rebuilt pool costs more than the event behind it."""


class Follower(Generic[T]):
    """Follows one kind; `changed` is called after its objects have changed, never in between."""

    def __init__(
        self,
        api: Api,
        path: str,
        reflector: Reflector[T],
        changed: Callable[[], None],
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self.path = path
        self.reflector = reflector
        self._api = api
        self._changed = changed
        self._clock = clock
        self._log = log
        self._silence = silence
        self._told = Trouble.NONE
        self._settled = False
        self._due: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                await self._step()
                self._tell_trouble()
        finally:
            if self._due is not None:
                self._due.cancel()

    async def _step(self) -> None:
        match self.reflector.next(self._clock()):
            case Wait(seconds):
                await asyncio.sleep(seconds)
            case List() as step:
                await self._list(step)
            case Watch() as step:
                await self._watch(step)

    async def _list(self, step: List) -> None:
        try:
            answer = await self._api.call("GET", self.path, query=step.query, timeout=LIST_SECONDS)
        except Unreachable as error:
            self._failed(Failure(0, str(error)))
            return
        if answer.good:
            if self.reflector.page(answer.body, self._clock()) or not self._settled:
                self._tell()
        else:
            await self._refused(answer)

    async def _watch(self, step: Watch) -> None:
        try:
            async with self._api.watch(self.path, step.query, silence=self._silence) as stream:
                if not stream.answer.good:
                    await self._refused(stream.answer)
                    return
                self.reflector.opened()
                self._tell_trouble()
                async with asyncio.timeout(step.seconds + LIST_SECONDS):
                    while (lines := await stream.read()) is not None:
                        if not self._hear(lines):
                            return
        except Unreachable as error:
            self._failed(Failure(0, str(error)))
            return
        except TimeoutError:
            self._log.info("watch overdue", path=self.path)
        self.reflector.ended(self._clock())

    def _hear(self, lines: list[bytes]) -> bool:
        """Take in some lines; False when the watch is to be given up."""
        for line in lines:
            heard = self.reflector.line(line, self._clock())
            if heard is Heard.CHANGED:
                self._tell()
            elif heard is Heard.BROKEN:
                self._log.info("listing anew", path=self.path, why=self.reflector.why)
                return False
        return True

    async def _refused(self, answer: Answer) -> None:
        if answer.status == 401:
            await self._api.renew_credentials()
        self._failed(answer.failure)

    def _failed(self, failure: Failure) -> None:
        if self.reflector.failed(failure, self._clock()) or self.reflector.settled:
            self._tell()

    # -- who hears of it --------------------------------------------------------------------------

    def _tell(self) -> None:
        """Now if it is the first time, else a little later together with what comes until then."""
        if self.reflector.settled and not self._settled:
            self._settled = True
            self._changed()
        elif self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(GATHER_SECONDS, self._tell_gathered)

    def _tell_gathered(self) -> None:
        self._due = None
        self._changed()

    def _tell_trouble(self) -> None:
        """One line when it begins, one when it is over."""
        now = self.reflector.trouble
        if now is self._told:
            return
        self._told = now
        if now is Trouble.NONE:
            self._log.info("watch works again", path=self.path)
        elif now is Trouble.ABSENT:
            self._log.info("kind not installed, looking for it from time to time", path=self.path)
        elif now is Trouble.FORBIDDEN:
            self._log.error("not allowed to watch", path=self.path, why=self.reflector.why)
        else:
            self._log.warning("watch fails", path=self.path, why=self.reflector.why)
