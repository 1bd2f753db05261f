"""What the wire and the request path say to each other; neither imports the other.

The wire collects a request and hands over an `Intake`; the path answers with a `Ticket` or raises
`Refused`. From then on the wire reports what the response does, and ends the ticket exactly once.
"""

from collections.abc import Awaitable, Mapping
from typing import Protocol, TypeAlias

import msgspec

from epp.domain.headers import HeaderChanges
from epp.domain.request import Head, SubsetHint
from epp.domain.response import Ending, ResponseHead, ResponseMode

Json: TypeAlias = str | float | bool | list["Json"] | dict[str, "Json"] | None


class Intake(msgspec.Struct, frozen=True):
    """A whole request as it came over the wire; `body` is empty for a request without one."""

    head: Head
    body: bytes
    subset: SubsetHint | None
    mode: ResponseMode
    body_seen: bool = True
    """False where the gateway does not show a body that is there: place it without reading it."""


class Ticket(Protocol):
    """A request that has been placed, until its response is over."""

    @property
    def destination(self) -> str:
        """Comma list of `host:port`: the value of the destination header and metadata."""
        ...

    @property
    def changes(self) -> HeaderChanges:
        """Request headers to set or remove besides the destination; control headers included."""
        ...

    @property
    def body(self) -> bytes | None:
        """The body to send instead of the client's, or None to leave it untouched."""
        ...

    def sent(self) -> None:
        """The replies that send the request on are written; `body` will not be asked for again."""
        ...

    @property
    def metadata(self) -> Mapping[str, Json]:
        """What else to put under `envoy.lb` besides the destination (opt-in scores)."""
        ...

    def response_started(self, head: ResponseHead) -> HeaderChanges:
        """The response's headers have come; returns what to change on them."""
        ...

    def response_chunk(self, data: bytes, end: bool) -> bytes:
        """A piece of the response body (full mode only); returns the bytes to pass on now.

        May hold bytes back until the end, never after it, and none where the head has said that
        they may not be held.
        """
        ...

    def response_metadata(self) -> Mapping[str, Mapping[str, Json]]:
        """Dynamic metadata by namespace and key; asked for once, when the body has passed."""
        ...

    def ended(self, ending: Ending) -> None:
        """The request is over; called exactly once, on every way out."""
        ...


class RequestPath(Protocol):
    """The way of a request, as the wire calls it."""

    def decide(self, intake: Intake) -> Ticket | Awaitable[Ticket]:
        """Place a request. Raises `epp.errors.Refused`, at once or from the awaitable.

        A request that need not wait is answered without a task. Cancelling the awaitable withdraws
        the request and frees whatever it held.
        """
        ...
