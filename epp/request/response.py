"""A response body on its way through: its usage is read, the client's model name put back.

Nothing here exists for a response nobody wants to look into: `response_body_for` returns None.
"""

from typing import Final, Protocol

from epp.domain.headers import NO_CHANGES, HeaderChanges
from epp.domain.request import Request
from epp.domain.response import ResponseHead, Usage
from epp.request.grpc import is_grpc
from epp.request.grpc_usage import grpc_body_for
from epp.request.rewrite import rename_model
from epp.request.sse import LineCutter, payloads
from epp.request.usage import JsonTail, UsageCount

MOST_HELD_BYTES: Final = 1024 * 1024
"""A JSON response that has not named its model by then goes on as it is."""

_RENAMED: Final = HeaderChanges(remove=("content-length",))
_FIRST_TRY: Final = 512


class ResponseBody(Protocol):
    """One response's bytes, fed in order."""

    @property
    def usage(self) -> Usage | None:
        """Token counts read so far; complete once the end was fed. None if none came."""
        ...

    @property
    def changes(self) -> HeaderChanges:
        """What to change on the response's headers, because the length will differ."""
        ...

    def feed(self, data: bytes, end: bool) -> bytes:
        """The bytes to pass on now; some may be held back, none after `end`."""
        ...

    def owed(self) -> bytes:
        """After `feed` has failed: all bytes that were fed and not passed on, as they came."""
        ...


def response_body_for(
    request: Request, head: ResponseHead, wants_usage: bool
) -> ResponseBody | None:
    """What to feed the body of this response to, or None when it may pass unseen.

    A compressed body, or one that is neither JSON, an event stream nor gRPC, passes unseen; in a
    gRPC response the model's name stays as it is.
    """
    name = request.model if request.model and request.model != request.target_model else None
    if name is None and not wants_usage:
        return None
    if head.headers.get("content-encoding", "identity").strip().lower() != "identity":
        return None
    if is_grpc(head.headers):
        return grpc_body_for(request.kind) if wants_usage else None
    count = UsageCount() if wants_usage else None
    media = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "text/event-stream":
        needle = b'"meta_info"' if _is_sglang(request) else b'"usage"'
        return EventBody(name, count, needle, may_hold=head.may_hold)
    if media.endswith(("/json", "+json")):
        return JsonBody(name, count, may_hold=head.may_hold)
    return None


def _is_sglang(request: Request) -> bool:
    return request.kind == "sglang_generate"


class EventBody:
    """An event stream: each event is looked at once its line is whole.

    Where nothing may be held back, a line that comes in two pieces keeps the model it names.
    """

    __slots__ = ("_at_line", "_count", "_cutter", "_holds", "_name", "_needle", "_unpassed")

    def __init__(
        self, name: str | None, count: UsageCount | None, needle: bytes, *, may_hold: bool = True
    ) -> None:
        self._name = name
        self._count = count
        self._needle = needle
        self._holds = name is not None and may_hold
        self._cutter = LineCutter()
        self._at_line = True
        self._unpassed: list[bytes] = []

    @property
    def usage(self) -> Usage | None:
        return self._count.usage if self._count else None

    @property
    def changes(self) -> HeaderChanges:
        return _RENAMED if self._name else NO_CHANGES

    def feed(self, data: bytes, end: bool) -> bytes:
        pieces = self._cutter.feed(data)
        if end:
            pieces.append((self._cutter.end(), True))
        self._unpassed = [piece for piece, _ in pieces] if self._holds else [data]
        for piece, whole in pieces:
            if self._count and whole:
                self._read(piece, self._count)
        if self._name is None:
            return data
        if not self._holds:
            return self._renamed_within(data, end, self._name)
        return b"".join(self._renamed(p, self._name) if whole else p for p, whole in pieces)

    def owed(self) -> bytes:
        held = self._cutter.end() if self._holds else b""
        return b"".join((*self._unpassed, held))

    def _read(self, lines: bytes, count: UsageCount) -> None:
        for start, end in payloads(lines, self._needle):
            count.read(lines[start:end])

    def _renamed_within(self, data: bytes, end: bool, name: str) -> bytes:
        """`data` with the lines renamed that it holds from their first byte to their last."""
        first = 0 if self._at_line else data.find(b"\n") + 1 or len(data)
        last = len(data) if end else max(data.rfind(b"\n") + 1, first)
        self._at_line = data.endswith(b"\n") if data else self._at_line
        return b"".join((data[:first], self._renamed(data[first:last], name), data[last:]))

    def _renamed(self, lines: bytes, name: str) -> bytes:
        parts: list[bytes] = []
        done = 0
        for start, end in payloads(lines, b'"model"'):
            parts += (lines[done:start], rename_model(lines[start:end], name))
            done = end
        return b"".join((*parts, lines[done:]))


class JsonBody:
    """One JSON object, in as many chunks as the network makes of it."""

    __slots__ = ("_count", "_renamer", "_tail", "_unpassed")

    def __init__(
        self, name: str | None, count: UsageCount | None, *, may_hold: bool = True
    ) -> None:
        self._renamer = _JsonRenamer(name, MOST_HELD_BYTES if may_hold else 0) if name else None
        self._count = count
        self._tail = JsonTail()
        self._unpassed = b""

    @property
    def usage(self) -> Usage | None:
        return self._count.usage if self._count else None

    @property
    def changes(self) -> HeaderChanges:
        return _RENAMED if self._renamer else NO_CHANGES

    def feed(self, data: bytes, end: bool) -> bytes:
        self._unpassed = data
        if self._count:
            self._tail.feed(data)
            if end:
                self._tail.read_into(self._count)
        if self._renamer is None:
            return data
        self._unpassed = b""
        return self._renamer.feed(data, end)

    def owed(self) -> bytes:
        return (bytes(self._renamer.held) if self._renamer else b"") + self._unpassed


class _JsonRenamer:
    """Holds the beginning back until it names the model; from then on everything just passes."""

    __slots__ = ("_done", "_most", "_name", "_next_try", "held")

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self.held = bytearray()
        self._next_try = min(_FIRST_TRY, most)
        self._done = False

    def feed(self, data: bytes, end: bool) -> bytes:
        if self._done:
            return data
        self.held += data
        if not end and len(self.held) < self._next_try:
            return b""
        return self._try(end)

    def _try(self, end: bool) -> bytes:
        """Tries come at doubled lengths, so that all of them together cost twice the last."""
        text = bytes(self.held)
        renamed = rename_model(text, self._name)
        self._next_try = min(2 * len(text), self._most + 1)
        self._done = end or renamed is not text or len(text) > self._most
        if not self._done:
            return b""
        self.held.clear()
        return renamed
