"""What a gRPC method sees of the wire, whichever shell carries it.

A `Method` is registered under a path; for each call the shell opens a `Handler` with the `Call` it
may answer through. Everything is synchronous and runs on the loop's thread: this is the hot path.
Order for one call: `open`, then any number of `message`, at most one `half_closed`; `resumed` and
`stopping` may come between. After `cancelled`, or after the handler itself has called `end`, the
handler hears nothing more.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

Metadata = Sequence[tuple[str, str | bytes]]
"""Pairs in wire order, names in lower case; a name ending in `-bin` has bytes, any other str."""


class Status(enum.IntEnum):
    """gRPC status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Cancellation(enum.Enum):
    """Why a call ended under its handler, before the handler ended it."""

    RESET = "reset by the client"
    CONNECTION_LOST = "connection lost"
    DEADLINE = "deadline exceeded"
    LIMIT = "a limit of the server"
    FAULT = "an error the handler raised"
    STOPPED = "the server stopped"


class CallError(Exception):
    """How a handler ends its call with a status other than OK; the shell turns it into `end`."""

    def __init__(self, status: Status, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Call(Protocol):
    """One call, as its handler may use it. Every method is a no-op once the call is over."""

    @property
    def metadata(self) -> Metadata:
        """What the client sent, without pseudo headers, `te`, `content-type` and `grpc-*`."""

    @property
    def deadline(self) -> float | None:
        """When the client gives up, in seconds on the server's monotonic clock; None for never."""

    @property
    def peer(self) -> str:
        """Who called: `ipv4:10.0.0.1:4711`, `ipv6:[::1]:4711`, `unix:`."""

    @property
    def writable(self) -> bool:
        """False while more is queued for this client than it takes; `resumed` says when it ends."""

    def send(self, message: bytes) -> None:
        """Send one whole message. Queued when the peer's window is shut, so look at `writable`."""

    def end(self, status: int = 0, message: str = "", trailing: Metadata = ()) -> None:
        """End the call after what was sent, with a status, a text for people, and metadata."""


class Handler(Protocol):
    """The server's side of one call."""

    def message(self, data: bytes) -> None:
        """One whole message arrived."""

    def half_closed(self) -> None:
        """The client will send nothing more; the call stays open until `Call.end`."""

    def cancelled(self, reason: Cancellation) -> None:
        """The call is over and can no longer be answered."""

    def resumed(self) -> None:
        """`Call.writable` has become true again."""

    def stopping(self) -> None:
        """The drain's deadline has come: end the call now; what stays open becomes UNAVAILABLE."""


class Method(Protocol):
    """A gRPC method of any arity."""

    def open(self, call: Call) -> Handler:
        """Begin one call. Raises CallError to refuse it."""


Methods = Mapping[str, Method]
"""Methods by full path, such as `/grpc.health.v1.Health/Check`."""


class UnaryMethod:
    """A method of one request and one reply, made from a function.

    The function gets the request's bytes and the call, returns the reply's bytes, and raises
    CallError for any other status.
    """

    def __init__(self, answer: Callable[[bytes, Call], bytes]) -> None:
        self._answer = answer

    def open(self, call: Call) -> Handler:
        return _UnaryHandler(self._answer, call)


class _UnaryHandler:
    __slots__ = ("_answer", "_call", "_request")

    def __init__(self, answer: Callable[[bytes, Call], bytes], call: Call) -> None:
        self._answer = answer
        self._call = call
        self._request: bytes | None = None

    def message(self, data: bytes) -> None:
        if self._request is not None:
            raise CallError(Status.INTERNAL, "a unary call takes one request message, got more")
        self._request = data

    def half_closed(self) -> None:
        if self._request is None:
            raise CallError(Status.INTERNAL, "a unary call takes one request message, got none")
        self._call.send(self._answer(self._request, self._call))
        self._call.end()

    def cancelled(self, reason: Cancellation) -> None:
        pass

    def resumed(self) -> None:
        pass

    def stopping(self) -> None:
        pass
