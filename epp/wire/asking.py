"""The request's direction of one stream: collect it whole, ask, answer with where it goes.

HEADERS -> BODY -> DECIDING -> SETTLED. In duplex mode nothing is answered until the request is
whole; in buffered mode the headers are let through at once and the answer rides on the body.
"""

import enum
from collections.abc import Callable

import msgspec

from epp.domain.headers import REQUEST_ID
from epp.domain.path import Intake, Ticket
from epp.domain.request import Head, SubsetHint
from epp.errors import Overloaded, ProtocolFault, TooLarge
from epp.wire import messages
from epp.wire.budget import ByteBudget
from epp.wire.gen.base_pb2 import Metadata
from epp.wire.gen.external_processor_pb2 import ProcessingRequest
from epp.wire.metadata import subset_in
from epp.wire.modes import BUFFERED, NONE, Modes


class ExchangeLimits(msgspec.Struct, frozen=True):
    """The most one request may bring, in bytes; over it the client gets 413."""

    max_body: int = 64 * 1024 * 1024
    max_headers: int = 64 * 1024


class Decide(msgspec.Struct, frozen=True):
    """The request is whole: where does it go?"""

    intake: Intake


class Phase(enum.Enum):
    """How far the request has come."""

    HEADERS = enum.auto()
    BODY = enum.auto()
    DECIDING = enum.auto()
    SETTLED = enum.auto()


class Asking:
    """Collects one request and answers it. `new_id` makes an `x-request-id` where there is none."""

    __slots__ = (
        "_answered",
        "_body",
        "_budget",
        "_ended_by",
        "_limits",
        "_made_id",
        "_metadata",
        "_modes",
        "_new_id",
        "_trailers",
        "head",
        "phase",
    )

    def __init__(
        self, modes: Modes, limits: ExchangeLimits, budget: ByteBudget, new_id: Callable[[], str]
    ) -> None:
        self._modes = modes
        self._limits = limits
        self._budget = budget
        self._new_id = new_id
        self.phase = Phase.HEADERS
        self.head: Head | None = None
        self._made_id = ""
        self._metadata: Metadata | None = None
        self._body: bytes | bytearray = b""
        self._ended_by = ""
        self._trailers = False
        self._answered = False

    def headers(self, message: ProcessingRequest) -> list[bytes | Decide]:
        """The first message. Raises TooLarge, ProtocolFault."""
        if self.phase is not Phase.HEADERS:
            raise ProtocolFault("request_headers came twice")
        self.phase = Phase.BODY
        self._note_metadata(message)
        self.head = self._read_head(message)
        if message.request_headers.end_of_stream:
            return [self._decide("headers")]
        if self._modes.request == NONE:
            return [self._decide("headers", body_seen=False)]
        if self._modes.request == BUFFERED:
            return [messages.request_headers_stripped(self.head.headers)]
        return []

    def body(self, message: ProcessingRequest) -> list[bytes | Decide]:
        """A piece of the body, or all of it when buffered. Raises TooLarge, Overloaded."""
        part = message.request_body
        if self.phase is not Phase.BODY:
            return self._after_the_end(part.body)
        self._note_metadata(message)
        self._hold(part.body)
        if part.end_of_stream or self._modes.request == BUFFERED:
            return [self._decide("body")]
        return []

    def trailers(self, message: ProcessingRequest) -> list[bytes | Decide]:
        """Trailers: the end of a body that has not ended yet, and owed an answer in any case."""
        if self.phase is Phase.HEADERS:
            raise ProtocolFault("request_trailers before request_headers: send request headers")
        if self._trailers:
            raise ProtocolFault("request_trailers came twice")
        self._trailers = True
        if self.phase is Phase.BODY:
            self._note_metadata(message)
            return [self._decide("trailers")]
        return [messages.REQUEST_TRAILERS_PASS] if self._answered else []

    def placed(self, ticket: Ticket) -> list[bytes]:
        """The replies that send the request on its way."""
        replies = self._answer(ticket, ticket.body)
        self._answered = True
        ticket.sent()
        self.settle()
        return replies

    def settle(self) -> None:
        """The request is over: placed, refused or gone. Gives back what was held of its body."""
        self.phase = Phase.SETTLED
        self._budget.give(len(self._body))
        self._body = b""
        self._metadata = None

    def _answer(self, ticket: Ticket, changed: bytes | None) -> list[bytes]:
        if self._ended_by == "headers":
            tail = [messages.REQUEST_TRAILERS_PASS] if self._trailers else []
            return [messages.request_headers(self._route(ticket, None)), *tail]
        if self._modes.request == BUFFERED:
            return self._answer_buffered(ticket, changed)
        body = bytes(self._body) if changed is None else changed
        replies = [messages.request_headers(self._route(ticket, changed))]
        replies += messages.request_body_pieces(body, end=not self._trailers)
        if self._trailers:
            replies.append(messages.REQUEST_TRAILERS_PASS)
        return replies

    def _answer_buffered(self, ticket: Ticket, changed: bytes | None) -> list[bytes]:
        if self._ended_by == "trailers":
            return [messages.request_trailers_routed(self._route(ticket, None))]
        reply = messages.request_body_routed(self._route(ticket, changed), changed)
        return [reply, messages.REQUEST_TRAILERS_PASS] if self._trailers else [reply]

    def _route(self, ticket: Ticket, changed: bytes | None) -> messages.Route:
        assert self.head is not None
        more = {} if changed is None else {"content-length": str(len(changed))}
        if self._made_id:
            more[REQUEST_ID] = self._made_id
        return messages.route_of(
            self.head.headers, ticket.destination, ticket.changes, ticket.metadata, more
        )

    def _decide(self, ended_by: str, body_seen: bool = True) -> Decide:
        assert self.head is not None
        self._ended_by = ended_by
        self.phase = Phase.DECIDING
        self._body = body = bytes(self._body)
        return Decide(
            Intake(self.head, body, self._subset(), self._modes.sees, body_seen=body_seen)
        )

    def _subset(self) -> SubsetHint | None:
        return None if self._metadata is None else subset_in(self._metadata)

    def _note_metadata(self, message: ProcessingRequest) -> None:
        """Forwarded metadata rides on every message of a request; the last word counts."""
        if message.HasField("metadata_context"):
            self._metadata = message.metadata_context

    def _read_head(self, message: ProcessingRequest) -> Head:
        headers, size = messages.read_headers(message.request_headers.headers)
        if not headers.get(REQUEST_ID):
            headers[REQUEST_ID] = self._made_id = self._new_id()
        head = Head(headers, size)
        if size > self._limits.max_headers:
            self.head = head
            raise TooLarge(f"headers are {size} bytes, the limit is {self._limits.max_headers}")
        self._expect(headers.get("content-length", ""), head)
        return head

    def _expect(self, length: str, head: Head) -> None:
        """Turn away at the headers what says that it is too large."""
        if not length.isascii() or not length.isdigit() or len(length) >= 20:
            return
        if int(length) > self._limits.max_body:
            self.head = head
            raise TooLarge(f"body is {length} bytes, the limit is {self._limits.max_body}")

    def _hold(self, data: bytes) -> None:
        if len(self._body) + len(data) > self._limits.max_body:
            raise TooLarge(f"body is over the limit of {self._limits.max_body} bytes")
        if not self._budget.take(len(data)):
            raise Overloaded("too many request bodies are held at the moment")
        if not self._body:
            self._body = data
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += data

    def _after_the_end(self, data: bytes) -> list[bytes | Decide]:
        """An empty end of stream may come again; bytes may not."""
        if self.phase is Phase.HEADERS:
            raise ProtocolFault("request_body before request_headers: send request headers")
        if data:
            raise ProtocolFault("request_body after the end of the request")
        return []
