"""One ext_proc stream as a pure state machine: messages in, replies out.

No await, no clock, no socket: a message out of order is a unit test, not a hung gateway. The two
directions live in `asking.py` and `answering.py`; here they are joined, and every way out of a
stream ends in one place.

The inputs return what to do now, in order: bytes are a reply to send, `Decide` asks for a decision
(answered by `placed` or `refused`), `WITHDRAW` takes that question back, `Ended` tells a ticket
that it is over (once for each), `Finish` ends the stream.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from epp.domain.path import Ticket
from epp.domain.request import Head
from epp.domain.response import Ending
from epp.errors import Overloaded, ProtocolFault, Refused
from epp.wire import answering, asking
from epp.wire.answering import Answering
from epp.wire.asking import Asking, Decide, ExchangeLimits
from epp.wire.budget import ByteBudget
from epp.wire.calls import Status
from epp.wire.gen.external_processor_pb2 import ProcessingRequest
from epp.wire.modes import modes_of
from epp.wire.refusals import refusal

__all__ = [
    "WITHDRAW",
    "Decide",
    "Effect",
    "Ended",
    "Exchange",
    "ExchangeLimits",
    "Finish",
    "Withdraw",
]


class Withdraw(msgspec.Struct, frozen=True):
    """Nobody waits for the decision any more."""


class Ended(msgspec.Struct, frozen=True):
    """A placed request is over."""

    ticket: Ticket
    ending: Ending


class Finish(msgspec.Struct, frozen=True):
    """End the gRPC stream with this status."""

    status: Status = Status.OK
    message: str = ""


Effect: TypeAlias = bytes | Decide | Withdraw | Ended | Finish

WITHDRAW: Final = Withdraw()
FINISH: Final = Finish()


class Exchange:
    """One stream from its first message to its end.

    `new_id` makes the `x-request-id` of a request that has none.
    """

    __slots__ = ("_answering", "_asking", "_budget", "_half_closed", "_limits", "_new_id", "over")

    def __init__(
        self, limits: ExchangeLimits, budget: ByteBudget, new_id: Callable[[], str]
    ) -> None:
        self._limits = limits
        self._budget = budget
        self._new_id = new_id
        self._asking: Asking | None = None
        self._answering: Answering | None = None
        self._half_closed = False
        self.over = False
        """Nothing more will be sent and nothing is held."""

    @property
    def deciding(self) -> bool:
        """A `Decide` is out, neither answered nor withdrawn."""
        asked = self._asking
        return asked is not None and asked.phase is asking.Phase.DECIDING

    @property
    def unanswered(self) -> bool:
        """A request has come that is neither placed nor overtaken: its client waits for us."""
        asked = self._asking
        return asked is not None and asked.phase is not asking.Phase.SETTLED

    @property
    def head(self) -> Head | None:
        """The request's headers, once they have come."""
        return self._asking.head if self._asking is not None else None

    def receive(self, message: ProcessingRequest) -> Sequence[Effect]:
        """One message of the gateway's.

        Raises Refused (call `refused` with it) and ProtocolFault (call `lost`).
        """
        if self.over:
            return ()
        if self._asking is None:
            modes = modes_of(message)
            self._asking = Asking(modes, self._limits, self._budget, self._new_id)
            self._answering = Answering(modes)
        kind = message.WhichOneof("request")
        if kind is None:
            raise ProtocolFault("a message of a kind this picker does not know")
        if kind.startswith("request"):
            return self._request(kind, message, self._asking)
        return self._response(kind, message)

    def placed(self, ticket: Ticket) -> Sequence[Effect]:
        """The answer to `Decide`: the request goes where the ticket says."""
        assert self._asking is not None
        assert self._answering is not None
        self._answering.ticket = ticket
        replies = self._asking.placed(ticket)
        return self._finished(replies) if self._half_closed else replies

    def holds(self, ticket: Ticket) -> bool:
        """Whether this is the stream of a placed request whose response has not begun."""
        passing = self._answering
        if passing is None or passing.ticket is not ticket:
            return False
        return passing.phase is answering.Phase.HEADERS

    def refused(self, refused: Refused, ending: Ending = Ending.FAULT) -> Sequence[Effect]:
        """The request gets an answer of ours; the gateway ends the stream on it, and so do we.

        Gateways take it until the response has begun, whether or not they wait for anything.
        """
        reply = refusal(refused, self.head)
        return [reply, *self._end(ending), FINISH]

    def faulted(self, refused: Refused) -> Sequence[Effect]:
        """Something of ours broke. A request not on its way yet is refused, a response goes on
        without us: a stream that ends with OK takes nothing from it."""
        if self.unanswered:
            withdrawn = [WITHDRAW] if self.deciding else []
            return [*withdrawn, *self.refused(refused)]
        return [*self._end(Ending.FAULT), FINISH]

    def half_closed(self) -> Sequence[Effect]:
        """The gateway sends nothing more. An open question is still answered."""
        self._half_closed = True
        if self.over or self.deciding:
            return ()
        return self._finished([])

    def lost(self, ending: Ending | None = None) -> Sequence[Effect]:
        """The stream is gone and cannot be answered; `ending` None is what that means here."""
        withdrawn = [WITHDRAW] if self.deciding else []
        return [*withdrawn, *self._end(ending or self._natural_ending())]

    def wind_down(self) -> bool:
        """Leave the response where nothing is lost; True if that is at the next pause.

        In duplex a stream that ends loses the piece that is on its way to us, so it should end in a
        pause between two. Elsewhere Envoy keeps what it has not heard of, and the next piece is the
        last one looked at.
        """
        passing = self._answering
        if passing is None or passing.phase is not answering.Phase.BODY:
            return False
        passing.leaving = not passing.is_duplex
        return passing.is_duplex

    def stop(self) -> Sequence[Effect]:
        """The picker ends now: responses go on without it, requests are turned away."""
        if self.over:
            return ()
        if not self.unanswered:
            held = self._answering.give_back() if self._answering is not None else []
            return [*held, *self._end(Ending.DRAINED), FINISH]
        withdrawn = [WITHDRAW] if self.deciding else []
        return [*withdrawn, *self.refused(Overloaded("the picker is shutting down"))]

    def _request(self, kind: str, message: ProcessingRequest, asked: Asking) -> Sequence[Effect]:
        match kind:
            case "request_headers":
                return asked.headers(message)
            case "request_body":
                return asked.body(message)
            case _:
                return asked.trailers(message)

    def _response(self, kind: str, message: ProcessingRequest) -> Sequence[Effect]:
        passing = self._answering
        assert passing is not None
        match kind:
            case "response_headers":
                replies = passing.headers(message)
            case "response_body":
                replies = passing.body(message)
            case _:
                replies = passing.trailers(message)
        # After the message was understood: a fault must find the question open, to withdraw it.
        effects: list[Effect] = [*self._overtaken(), *replies]
        if passing.phase is answering.Phase.DONE:
            effects += self._end_ticket(passing.ending)
        elif passing.leaving and kind == "response_body":
            effects += [*self._end(Ending.DRAINED), FINISH]
        return effects

    def _overtaken(self) -> list[Effect]:
        """A response before the request was placed is the gateway's own (a timeout, a limit)."""
        asked = self._asking
        assert asked is not None
        if asked.phase is asking.Phase.SETTLED:
            return []
        withdrawn: list[Effect] = [WITHDRAW] if self.deciding else []
        asked.settle()
        return withdrawn

    def _finished(self, effects: Sequence[Effect]) -> Sequence[Effect]:
        return [*effects, *self._end(self._natural_ending()), FINISH]

    def _natural_ending(self) -> Ending:
        return self._answering.ending if self._answering is not None else Ending.CLIENT_GONE

    def _end(self, ending: Ending) -> Sequence[Effect]:
        """Every way out: give back what is held, end the ticket, send nothing more."""
        self.over = True
        if self._asking is not None and self._asking.phase is not asking.Phase.SETTLED:
            self._asking.settle()
        return self._end_ticket(ending)

    def _end_ticket(self, ending: Ending) -> Sequence[Effect]:
        passing = self._answering
        if passing is None or passing.ticket is None:
            return ()
        ticket, passing.ticket = passing.ticket, None
        return [Ended(ticket, ending)]
