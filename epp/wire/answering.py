"""The response's direction of one stream: let it pass, tell the ticket, know how it ended.

HEADERS -> BODY -> DONE. What a mode does not show is not waited for: in watch mode the end of the
stream is the end of the response.
"""

import enum

from epp.domain.headers import NO_CHANGES
from epp.domain.path import Ticket
from epp.domain.response import Ending, ResponseHead
from epp.errors import ProtocolFault
from epp.wire import messages
from epp.wire.gen.external_processor_pb2 import ProcessingRequest
from epp.wire.metadata import served_in
from epp.wire.modes import BUFFERED, DUPLEX, NONE, Modes


class Phase(enum.Enum):
    """How far the response has come."""

    HEADERS = enum.auto()
    BODY = enum.auto()
    DONE = enum.auto()


class Answering:
    """Passes one response. Without a ticket (nothing was placed on the stream) it only passes."""

    __slots__ = ("_body_ended", "_mode", "_status", "leaving", "phase", "ticket")

    def __init__(self, modes: Modes) -> None:
        self._mode = modes.response
        self.phase = Phase.HEADERS
        self.ticket: Ticket | None = None
        self._status = 0
        self._body_ended = False
        self.leaving = False
        """The next piece of the body is the last that is looked at."""

    @property
    def is_duplex(self) -> bool:
        """The body leaves through us alone: what we do not send back is lost."""
        return self._mode == DUPLEX

    @property
    def ending(self) -> Ending:
        """How the request ended if its stream is over now."""
        if self.phase is Phase.HEADERS:
            return Ending.CLIENT_GONE
        if self.phase is Phase.BODY and self._mode != NONE and not self._body_ended:
            return Ending.CLIENT_GONE
        return Ending.UPSTREAM_ERROR if self._status >= 500 else Ending.COMPLETE

    def headers(self, message: ProcessingRequest) -> list[bytes]:
        """The response has begun; 1xx never comes this way."""
        if self.phase is not Phase.HEADERS:
            raise ProtocolFault("response_headers came twice")
        headers = messages.LateHeaders(message.response_headers.headers)
        status = headers.status
        numeric = status.isascii() and status.isdigit() and len(status) == 3
        self._status = int(status) if numeric else 0
        self.phase = Phase.DONE if message.response_headers.end_of_stream else Phase.BODY
        if self.ticket is None:
            return [messages.RESPONSE_HEADERS_PASS]
        served = (
            served_in(message.metadata_context) if message.HasField("metadata_context") else None
        )
        head = ResponseHead(
            self._status, headers, served, may_hold=self._mode in (DUPLEX, BUFFERED)
        )
        changes = self.ticket.response_started(head)
        return [messages.response_headers(changes or NO_CHANGES)]

    def body(self, message: ProcessingRequest) -> list[bytes]:
        """A piece of the body. Duplex answers in pieces of its own, the rest one for one."""
        part = message.response_body
        if self.phase is not Phase.BODY or self._body_ended:
            return self._outside(part.body)
        self._body_ended = part.end_of_stream or self._mode == BUFFERED
        if part.end_of_stream:
            self.phase = Phase.DONE
        passed = self._through(part.body, self._body_ended or self.leaving)
        if self._mode == DUPLEX:
            replies = messages.response_body_pieces(passed, part.end_of_stream)
        elif passed == part.body:
            replies = [messages.RESPONSE_BODY_PASS]
        elif self._mode == BUFFERED:
            replies = [messages.response_body_whole(passed)]
        else:
            replies = [messages.response_body_instead(passed)]
        return self._told(replies) if self._body_ended else replies

    def give_back(self) -> list[bytes]:
        """What the ticket holds back, when nobody will be asked for it any more (duplex alone)."""
        if self._mode != DUPLEX or self.phase is not Phase.BODY or self._body_ended:
            return []
        held = self._through(b"", True)
        return messages.response_body_pieces(held, False) if held else []

    def trailers(self, message: ProcessingRequest) -> list[bytes]:
        """The response ends by trailers; what the ticket held back leaves before them.

        Only duplex has a way for it: in the other modes nothing may be held back until here.
        """
        if self.phase is Phase.HEADERS:
            raise ProtocolFault("response_trailers before response_headers")
        pieces: list[bytes] = []
        ends_here = self._mode != NONE and not self._body_ended
        if ends_here:
            held = self._through(b"", True)
            pieces = messages.response_body_pieces(held, False) if self._mode == DUPLEX else []
        self._body_ended = True
        self.phase = Phase.DONE
        replies = [*pieces, messages.RESPONSE_TRAILERS_PASS]
        return self._told(replies) if ends_here else replies

    def _told(self, replies: list[bytes]) -> list[bytes]:
        """The last words about a response: what the ticket has to say rides on the last reply."""
        told = self.ticket.response_metadata() if self.ticket is not None else None
        if told:
            replies[-1] += messages.metadata(told)
        return replies

    def _through(self, data: bytes, end: bool) -> bytes:
        return data if self.ticket is None else self.ticket.response_chunk(data, end)

    def _outside(self, data: bytes) -> list[bytes]:
        """An empty end of stream may come again; anything else is out of order."""
        if self.phase is Phase.HEADERS:
            raise ProtocolFault("response_body before response_headers")
        if data:
            raise ProtocolFault("response_body after the end of the response")
        return []
