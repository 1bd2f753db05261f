"""What comes back: the response's head, its usage, and how it ended."""

import enum

import msgspec

from epp.domain.headers import Headers


class ResponseHead(msgspec.Struct, frozen=True):
    """Status and headers of the answer; `served` is the `host:port` the gateway says answered."""

    status: int
    headers: Headers
    served: str | None = None
    may_hold: bool = True
    """Whether bytes of the body may be passed on later than with the piece they came in: a gateway
    that takes one answer for each piece has no place for them once trailers end the response."""


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the model server reported them; `cached_tokens` None if it said nothing."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None


class Ending(enum.Enum):
    """Why a placed request is over. The ledger frees what it held on each of them."""

    COMPLETE = "complete"
    """The response ended, as far as this mode can see."""
    CLIENT_GONE = "client-gone"
    """The stream was reset before the response ended."""
    UPSTREAM_ERROR = "upstream-error"
    """Status 5xx, or the gateway could not reach the endpoint."""
    DRAINED = "drained"
    """The picker stopped while the response was still open; the response itself goes on."""
    EVICTED = "evicted"
    """Taken back before its response began, for work of higher priority."""
    FAULT = "fault"
    """Our own error."""


class ResponseMode(enum.Enum):
    """How much of a response the picker sees (what the gateway's filter is configured to send)."""

    FULL = "full"
    WATCH = "watch"
    FORGET = "forget"
