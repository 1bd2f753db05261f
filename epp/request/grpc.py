"""gRPC bodies: messages, each behind five bytes that give its length.

The first of the five is 1 where the message is compressed. A call with one request has one message.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from epp.domain.headers import Headers
from epp.domain.response import ResponseHead
from epp.errors import BadRequest

M = TypeVar("M", bound=Message)

PREFIX: Final = 5
MOST_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Of a response's message; longer ones pass unread, as gRPC's own limit would have it."""

_COMPRESSED: Final = 1


STATUS: Final = "grpc-status"
AS_HTTP: Final[Mapping[str, int]] = {
    "1": 499,
    "2": 500,
    "3": 400,
    "4": 504,
    "5": 404,
    "6": 409,
    "7": 403,
    "8": 429,
    "9": 400,
    "10": 409,
    "11": 400,
    "12": 501,
    "13": 500,
    "14": 503,
    "15": 500,
    "16": 401,
}
"""The HTTP status each gRPC status stands for (the mapping of google.rpc.Code)."""


def status_of(head: ResponseHead) -> int:
    """The status of an answer to a gRPC call, as HTTP would say it.

    A call that fails before its first message has its gRPC status among the headers, under an HTTP
    status of 200; so do those that a gateway could not bring to an endpoint.
    """
    return AS_HTTP.get(head.headers.get(STATUS, ""), head.status)


def is_grpc(headers: Headers) -> bool:
    """Whether the body under these headers is gRPC's, `application/grpc+proto` and such included.

    gRPC for browsers (`application/grpc-web`) is another thing.
    """
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    return media == "application/grpc" or media.startswith("application/grpc+")


def only_message(body: bytes) -> bytes:
    """The one message of a request. Raises `BadRequest` where there is none, or more than one."""
    if len(body) < PREFIX:
        raise BadRequest("body: no gRPC message; send one behind its five bytes of length")
    if body[0] == _COMPRESSED:
        raise BadRequest("body: a compressed gRPC message; send it without compression")
    length = int.from_bytes(body[1:PREFIX], "big")
    if body[0] or length != len(body) - PREFIX:
        raise BadRequest("body: not one gRPC message of the length it says; send one alone")
    return body[PREFIX:]


def framed(message: bytes) -> bytes:
    """A message as a body has it."""
    return b"".join((b"\0", len(message).to_bytes(PREFIX - 1, "big"), message))


def decode(kind: Callable[[bytes], M], body: bytes) -> M:
    """The one message of `body`, read by `kind`, a class's `FromString`. Raises `BadRequest`."""
    try:
        return kind(only_message(body))
    except DecodeError:
        raise BadRequest("body: not the protobuf message this method takes; check it") from None


class FrameCutter:
    """Cuts a response into messages wherever the network has cut it.

    A message over `most` bytes, or a compressed one, is left out, and none of it is kept.
    """

    __slots__ = ("_held", "_most", "_skip")

    def __init__(self, most: int = MOST_MESSAGE_BYTES) -> None:
        self._most = most
        self._held = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole now, in order."""
        self._held += data
        while True:
            self._drop()
            if len(self._held) < PREFIX:
                return
            length = int.from_bytes(self._held[1:PREFIX], "big")
            if self._held[0] or length > self._most:
                self._skip = PREFIX + length
            elif len(self._held) < PREFIX + length:
                return
            else:
                yield bytes(self._held[PREFIX : PREFIX + length])
                del self._held[: PREFIX + length]

    def _drop(self) -> None:
        """Forget what belongs to a message that is left out."""
        if self._skip:
            gone = min(self._skip, len(self._held))
            del self._held[:gone]
            self._skip -= gone
