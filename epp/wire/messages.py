"""ext_proc messages: headers read into values, decisions written as replies.

Replies are built as bytes, so that those which never vary are built once.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from epp.domain.headers import (
    CONTROL_HEADERS,
    DESTINATION,
    LB_NAMESPACE,
    HeaderChanges,
    Headers,
)
from epp.domain.path import Json
from epp.wire.gen.base_pb2 import HeaderMap, HeaderValueOption
from epp.wire.gen.external_processor_pb2 import (
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    ProcessingResponse,
    TrailersResponse,
)

PIECE: Final = 62_000
"""The most body bytes in one reply: with its envelope a reply stays under Envoy's 64 KiB."""

_OVERWRITE: Final = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD

REQUEST_HEADERS_PASS: Final = ProcessingResponse(
    request_headers=HeadersResponse()
).SerializeToString()
REQUEST_BODY_PASS: Final = ProcessingResponse(request_body=BodyResponse()).SerializeToString()
REQUEST_TRAILERS_PASS: Final = ProcessingResponse(
    request_trailers=TrailersResponse()
).SerializeToString()
RESPONSE_HEADERS_PASS: Final = ProcessingResponse(
    response_headers=HeadersResponse()
).SerializeToString()
RESPONSE_BODY_PASS: Final = ProcessingResponse(response_body=BodyResponse()).SerializeToString()
RESPONSE_TRAILERS_PASS: Final = ProcessingResponse(
    response_trailers=TrailersResponse()
).SerializeToString()


class Route(msgspec.Struct, frozen=True):
    """What a placed request's reply carries, whichever message carries it."""

    destination: str
    """Comma list of `host:port`, for header and metadata alike."""
    set_headers: Mapping[str, str]
    remove_headers: tuple[str, ...]
    metadata: Mapping[str, Json]
    """More under `envoy.lb`, besides the destination."""

    @property
    def bare(self) -> bool:
        """Nothing varies but the destination."""
        return not (self.set_headers or self.remove_headers or self.metadata)


def read_headers(block: HeaderMap) -> tuple[dict[str, str], int]:
    """Names in lower case to their last value, and the bytes of all names and values together.

    `raw_value` goes before `value`; bytes that are not UTF-8 become replacement characters.
    """
    headers: dict[str, str] = {}
    size = 0
    for header in block.headers:
        # Each look at a field makes a string anew, so each is looked at once.
        name, raw = header.key, header.raw_value
        if raw:
            headers[name.lower()] = raw.decode("utf-8", "replace")
            size += len(name) + len(raw)
        else:
            headers[name.lower()] = value = header.value
            size += len(name) + len(value)
    return headers, size


class LateHeaders(Mapping[str, str]):
    """What `read_headers` would make of a block, made when it is first asked for.

    In watch mode the status is all that most policies want of a response: 6 us saved.
    """

    __slots__ = ("_block", "_read")

    def __init__(self, block: HeaderMap) -> None:
        self._block = block
        self._read: dict[str, str] | None = None

    @property
    def status(self) -> str:
        """The value of `:status`, which gateways send first; empty without one."""
        for header in self._block.headers:
            if header.key == ":status":
                raw = header.raw_value
                return raw.decode("utf-8", "replace") if raw else header.value
        return ""

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, str]:
        if self._read is None:
            self._read, _ = read_headers(self._block)
        return self._read


def route_of(
    headers: Headers,
    destination: str,
    changes: HeaderChanges,
    metadata: Mapping[str, Json],
    more: Mapping[str, str],
) -> Route:
    """What to set and remove so that a client steers nothing: only what is there is removed.

    `more` are the wire's own headers to set (`content-length`, `x-request-id`).
    """
    wanted = {**changes.set, **more}
    wanted.pop(DESTINATION, None)
    unwelcome = (headers.keys() & CONTROL_HEADERS).union(changes.remove) - wanted.keys()
    unwelcome.discard(DESTINATION)
    return Route(destination, wanted, tuple(sorted(unwelcome)), metadata)


def request_headers(route: Route) -> bytes:
    """The reply to the request's headers that sends it to its endpoint."""
    if route.bare:
        return _bare_headers(route.destination)
    reply = ProcessingResponse()
    _route_into(reply, reply.request_headers.response, route)
    return reply.SerializeToString()


def request_headers_stripped(headers: Headers) -> bytes:
    """The reply to headers that leave before the decision: nothing in them that steers.

    A body may never come (trailers can end the request), and what was let through is gone.
    """
    unwelcome = sorted(headers.keys() & (CONTROL_HEADERS | {DESTINATION}))
    if not unwelcome:
        return REQUEST_HEADERS_PASS
    reply = ProcessingResponse()
    reply.request_headers.response.header_mutation.remove_headers.extend(unwelcome)
    return reply.SerializeToString()


def request_body_routed(route: Route, body: bytes | None) -> bytes:
    """The reply to a buffered body: the same changes, and a new body if there is one."""
    if body is None and route.bare:
        return _bare_body(route.destination)
    reply = ProcessingResponse()
    common = reply.request_body.response
    _route_into(reply, common, route)
    if body is not None:
        common.body_mutation.body = body
    return reply.SerializeToString()


def request_trailers_routed(route: Route) -> bytes:
    """The reply to trailers that end a body nobody saw: only metadata can carry the endpoint."""
    reply = ProcessingResponse()
    reply.request_trailers.SetInParent()
    _metadata_into(reply, route)
    return reply.SerializeToString()


def request_body_pieces(body: bytes, end: bool) -> list[bytes]:
    """`body` in pieces for duplex mode; the last carries the end of stream if `end`.

    An empty body is one empty piece with `end`, no piece without.
    """
    return [_request_piece(piece, last and end) for piece, last in _pieces(body, end)]


def response_headers(changes: HeaderChanges) -> bytes:
    """The reply to the response's headers."""
    if not changes.set and not changes.remove:
        return RESPONSE_HEADERS_PASS
    reply = ProcessingResponse()
    mutation = reply.response_headers.response.header_mutation
    _set_all(mutation, changes.set)
    mutation.remove_headers.extend(changes.remove)
    return reply.SerializeToString()


def response_body_pieces(body: bytes, end: bool) -> list[bytes]:
    """`body` in pieces for duplex mode; the last carries the end of stream if `end`."""
    if len(body) <= PIECE:
        return [_response_piece(body, end)] if body or end else []
    return [_response_piece(piece, last and end) for piece, last in _pieces(body, end)]


def response_body_whole(body: bytes) -> bytes:
    """The reply to a buffered response body that puts `body` in its place.

    Envoy answers 500 where the length it was told and the length it is given differ.
    """
    reply = ProcessingResponse()
    common = reply.response_body.response
    _set(common.header_mutation, "content-length", str(len(body)))
    mutation = common.body_mutation
    if body:
        mutation.body = body
    else:
        mutation.clear_body = True
    return reply.SerializeToString()


def response_body_instead(piece: bytes) -> bytes:
    """The reply to one piece of a streamed response body that puts `piece` in its place."""
    reply = ProcessingResponse()
    mutation = reply.response_body.response.body_mutation
    if piece:
        mutation.body = piece
    else:
        mutation.clear_body = True
    return reply.SerializeToString()


def metadata(told: Mapping[str, Mapping[str, Json]]) -> bytes:
    """Dynamic metadata by namespace, to be appended to a reply: bytes of messages add up."""
    more = ProcessingResponse()
    for namespace, values in told.items():
        more.dynamic_metadata.fields[namespace].struct_value.update(dict(values))
    return more.SerializeToString()


# Most requests bring an x-request-id and nothing to remove, so that their replies differ by the
# endpoint alone: remembered, a reply costs 0.4 us instead of 5 to 7 (test/bench/bench_exchange.py).
@functools.lru_cache(maxsize=4096)
def _bare_headers(destination: str) -> bytes:
    reply = ProcessingResponse()
    _route_into(reply, reply.request_headers.response, Route(destination, {}, (), {}))
    return reply.SerializeToString()


@functools.lru_cache(maxsize=4096)
def _bare_body(destination: str) -> bytes:
    reply = ProcessingResponse()
    _route_into(reply, reply.request_body.response, Route(destination, {}, (), {}))
    return reply.SerializeToString()


def _pieces(body: bytes, end: bool) -> Iterable[tuple[bytes, bool]]:
    """Pieces of at most `PIECE` bytes, each with whether it is the last."""
    if not body:
        return [(b"", True)] if end else []
    size = len(body)
    return ((body[at : at + PIECE], at + PIECE >= size) for at in range(0, size, PIECE))


def _request_piece(piece: bytes, end: bool) -> bytes:
    reply = ProcessingResponse()
    streamed = reply.request_body.response.body_mutation.streamed_response
    streamed.body = piece
    streamed.end_of_stream = end
    return reply.SerializeToString()


def _response_piece(piece: bytes, end: bool) -> bytes:
    reply = ProcessingResponse()
    streamed = reply.response_body.response.body_mutation.streamed_response
    streamed.body = piece
    streamed.end_of_stream = end
    return reply.SerializeToString()


def _route_into(reply: ProcessingResponse, common: CommonResponse, route: Route) -> None:
    common.clear_route_cache = True
    mutation = common.header_mutation
    _set(mutation, DESTINATION, route.destination)
    _set_all(mutation, route.set_headers)
    mutation.remove_headers.extend(route.remove_headers)
    _metadata_into(reply, route)


def _metadata_into(reply: ProcessingResponse, route: Route) -> None:
    lb = reply.dynamic_metadata.fields[LB_NAMESPACE].struct_value
    if route.metadata:
        lb.update(route.metadata)
    lb.fields[DESTINATION].string_value = route.destination


def _set_all(mutation: HeaderMutation, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        _set(mutation, name, value)


def _set(mutation: HeaderMutation, name: str, value: str) -> None:
    option = mutation.set_headers.add(append_action=_OVERWRITE)
    option.header.key = name
    option.header.raw_value = value.encode()
