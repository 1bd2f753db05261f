"""Between a call and its exchange: bytes parsed, decisions awaited, faults kept to one stream."""

import asyncio
import traceback
import uuid
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, Final, Protocol, cast

import structlog
from google.protobuf.message import DecodeError

from epp.domain.path import Intake, RequestPath, Ticket
from epp.domain.request import Head
from epp.domain.response import Ending
from epp.errors import InternalFault, ProtocolFault, Refused
from epp.wire.budget import ByteBudget
from epp.wire.calls import Call, Cancellation, Status
from epp.wire.exchange import Decide, Effect, Ended, Exchange, ExchangeLimits, Finish
from epp.wire.gen.external_processor_pb2 import ProcessingRequest
from epp.wire.modes import UnservedMode

PAUSE_SECONDS: Final = 0.001
"""No piece for so long after the last is the begin of a pause: what the gateway sent together with
it has been read, and the next token is as far away as it can be."""
SECOND_LOOK_SECONDS: Final = 0.0005

PROCESS: Final = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


class Log(Protocol):
    """The two calls of a structlog logger used here."""

    def warning(self, event: str, *args: Any, **fields: Any) -> Any: ...
    def error(self, event: str, *args: Any, **fields: Any) -> Any: ...


def new_request_id() -> str:
    """A random id in the form gateways use."""
    return str(uuid.uuid4())


class Process:
    """The method `Process`: one `Session` for each stream.

    `told` hears of the wire's own refusals (limits, held bytes, and faults that a client sees),
    each with the head of its request;
    the path knows of those it raised. `replied` hears the seconds each placed request's replies
    took to write. A fault that no client sees is one line in the log.
    """

    def __init__(
        self,
        path: RequestPath,
        *,
        budget: ByteBudget,
        limits: ExchangeLimits | None = None,
        told: Callable[[Refused, Head | None], None] | None = None,
        replied: Callable[[float], None] | None = None,
        new_id: Callable[[], str] = new_request_id,
        log: Log | None = None,
    ) -> None:
        self.path = path
        self.budget = budget
        self.limits = limits or ExchangeLimits()
        self.told = told
        self.replied = replied
        self.new_id = new_id
        self.log: Log = log or structlog.get_logger("epp.wire")
        self.sessions: set[Session] = set()
        self.leaving = False

    @property
    def open_streams(self) -> int:
        return len(self.sessions)

    def open(self, call: Call) -> "Session":
        """Begin one stream."""
        session = Session(self, call, Exchange(self.limits, self.budget, self.new_id))
        self.sessions.add(session)
        return session

    def wind_down(self) -> None:
        """A drain is about to end: leave each response where nothing of it is lost."""
        self.leaving = True

    def revoke(self, ticket: Ticket, why: Refused) -> bool:
        """Take a placed request back; False where its response has begun, or it is over."""
        return any(session.revoke(ticket, why) for session in tuple(self.sessions))


class Session:
    """One stream of one call: the `Handler` that drives an `Exchange`."""

    __slots__ = ("_call", "_exchange", "_house", "_pause", "_waiting")

    def __init__(self, house: Process, call: Call, exchange: Exchange) -> None:
        self._house = house
        self._call = call
        self._exchange = exchange
        self._waiting: asyncio.Future[Ticket] | None = None
        self._pause: asyncio.TimerHandle | None = None

    # -- Handler --------------------------------------------------------------------------------

    def message(self, data: bytes) -> None:
        """One message of the gateway's. Nothing is raised: what goes wrong ends this stream."""
        try:
            self._perform(self._exchange.receive(ProcessingRequest.FromString(data)))
            if self._house.leaving:
                self.wind_down()
        except Refused as refused:
            self._refuse(refused)
            self._tell(refused)
        except ProtocolFault as fault:
            self._broken(fault)
        except DecodeError:
            self._broken(ProtocolFault("not a ProcessingRequest"))
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; logged, answered 500
            self._faulted(error)

    def half_closed(self) -> None:
        """The gateway sends nothing more."""
        self._guarded(self._exchange.half_closed)

    def cancelled(self, reason: Cancellation) -> None:
        """The stream is gone: whatever was asked or placed is given back."""
        self._house.sessions.discard(self)
        ending = Ending.DRAINED if reason is Cancellation.STOPPED else None
        self._perform(self._exchange.lost(ending))

    def resumed(self) -> None:
        """Replies are few and the gateway's windows bound them: nothing waits for this."""

    def wind_down(self) -> None:
        """A drain is about to come to its end: leave the response, if there is one, in a pause."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._exchange.wind_down():
            self._pause = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._look_once_more)

    def _look_once_more(self) -> None:
        """Timers of a loop that was kept waiting run before its sockets are read: a piece may lie
        there. It is read before the second timer."""
        self._pause = asyncio.get_running_loop().call_later(SECOND_LOOK_SECONDS, self.stopping)

    def revoke(self, ticket: Ticket, why: Refused) -> bool:
        """`Process.revoke`, as far as this stream is concerned."""
        if not self._exchange.holds(ticket):
            return False
        self._guarded(lambda: self._exchange.refused(why, Ending.EVICTED))
        return True

    def stopping(self) -> None:
        """A drain has come to its end."""
        self._guarded(self._exchange.stop)

    # -- effects ----------------------------------------------------------------------------------

    def _perform(self, effects: Sequence[Effect]) -> None:
        call = self._call
        for effect in effects:
            if type(effect) is bytes:
                call.send(effect)
            elif isinstance(effect, Decide):
                self._decide(effect.intake)
            elif isinstance(effect, Finish):
                self._end(effect.status, effect.message)
            elif isinstance(effect, Ended):
                self._end_ticket(effect.ticket, effect.ending)
            else:
                self._withdraw()

    def _decide(self, intake: Intake) -> None:
        try:
            outcome = self._house.path.decide(intake)
        except Refused as refused:
            self._refuse(refused)
            return
        # Asking the abstract class instead costs 2 us.
        if hasattr(outcome, "__await__"):
            self._wait_for(cast("Awaitable[Ticket]", outcome))
        else:
            self._send_off(outcome)

    def _send_off(self, ticket: Ticket) -> None:
        began = perf_counter()
        self._perform(self._exchange.placed(ticket))
        if self._house.replied is not None:
            self._house.replied(perf_counter() - began)

    def _wait_for(self, outcome: Awaitable[Ticket]) -> None:
        self._waiting = asyncio.ensure_future(outcome)
        self._waiting.add_done_callback(self._decided)

    def _decided(self, future: "asyncio.Future[Ticket]") -> None:
        """The path has answered, or was cancelled; too late, its ticket is ended at once."""
        late = self._waiting is not future
        self._waiting = None
        try:
            if late:
                self._end_late(future)
            elif future.cancelled():
                self._faulted(asyncio.CancelledError("the decision was cancelled from elsewhere"))
            else:
                self._send_off(future.result())
        except Refused as refused:
            self._refuse(refused)
        except Exception as error:  # noqa: BLE001 - as in `message`
            self._faulted(error)

    def _withdraw(self) -> None:
        waiting, self._waiting = self._waiting, None
        if isinstance(waiting, asyncio.Task):
            # In the next turn: a task that is cancelled before its first step leaves what it was
            # to wait for never awaited.
            asyncio.get_running_loop().call_soon(waiting.cancel)
        elif waiting is not None:
            waiting.cancel()

    # -- ways out ---------------------------------------------------------------------------------

    def _end(self, status: Status, message: str = "") -> None:
        self._house.sessions.discard(self)
        self._call.end(status, message)

    def _refuse(self, refused: Refused) -> None:
        if self._exchange.over:
            return
        self._perform(self._exchange.refused(refused))

    def _broken(self, fault: ProtocolFault) -> None:
        """The gateway's fault: a clear status, and nothing held."""
        unserved = isinstance(fault, UnservedMode)
        status = Status.FAILED_PRECONDITION if unserved else Status.INVALID_ARGUMENT
        self._house.log.warning("stream refused", status=status.name, why=str(fault))
        self._perform(self._exchange.lost(Ending.FAULT))
        self._end(status, str(fault))

    def _faulted(self, error: BaseException) -> None:
        """Our fault: an id for the client, and one line in the log that says where, never what was
        being worked on (an exception's text may quote a prompt). Whoever is told of refusals
        writes that line; it is ours where the client sees nothing of the fault."""
        fault = InternalFault(self._house.new_id())
        fault.__cause__ = error
        over = self._exchange.over
        refused = not over and self._exchange.unanswered and self._house.told is not None
        if not refused:
            self._log_fault(fault.fault_id, error)
        if over:
            return
        try:
            self._perform(self._exchange.faulted(fault))
        finally:
            if refused:
                self._tell(fault)

    def _guarded(self, step: Callable[[], Sequence[Effect]]) -> None:
        try:
            self._perform(step())
        except Exception as error:  # noqa: BLE001 - as in `message`
            self._faulted(error)

    def _end_ticket(self, ticket: Ticket, ending: Ending) -> None:
        """A ticket that fails at its end changes nothing for the client: it is only logged."""
        try:
            ticket.ended(ending)
        except Exception as error:  # noqa: BLE001 - logged
            self._log_fault(self._house.new_id(), error)

    def _end_late(self, future: "asyncio.Future[Ticket]") -> None:
        """Nobody waits any more: a ticket that came all the same is ended."""
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._end_ticket(future.result(), Ending.CLIENT_GONE)
        elif not isinstance(error, Refused):
            self._log_fault(self._house.new_id(), error)

    def _log_fault(self, fault_id: str, error: BaseException) -> None:
        self._house.log.error(
            "fault",
            fault_id=fault_id,
            error=type(error).__name__,
            trace="".join(traceback.format_tb(error.__traceback__)),
        )

    def _tell(self, refused: Refused) -> None:
        if self._house.told is not None:
            self._house.told(refused, self._exchange.head)
