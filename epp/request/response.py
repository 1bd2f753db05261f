"""A response body on its way through: its usage is read, the client's model name put back.

Nothing here exists for a response nobody wants to look into: `response_body_for` returns None.
"""

from typing import Final, Protocol

from epp.domain.headers import NO_CHANGES, HeaderChanges
from epp.domain.request import Request
from epp.domain.response import ResponseHead, Usage
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


def response_body_for(
    request: Request, head: ResponseHead, wants_usage: bool
) -> ResponseBody | None:
    """What to feed the body of this response to, or None when it may pass unseen.

    A compressed body, or one that is neither JSON nor an event stream, passes unseen.
    """
    name = request.model if request.model and request.model != request.target_model else None
    if name is None and not wants_usage:
        return None
    if head.headers.get("content-encoding", "identity").strip().lower() != "identity":
        return None
    count = UsageCount() if wants_usage else None
    media = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "text/event-stream":
        return EventBody(name, count, b'"meta_info"' if _is_sglang(request) else b'"usage"')
    return JsonBody(name, count) if media.endswith(("/json", "+json")) else None


def _is_sglang(request: Request) -> bool:
    return request.kind == "sglang_generate"


class EventBody:
    """An event stream: each event is looked at once its line is whole."""

    __slots__ = ("_count", "_cutter", "_name", "_needle")

    def __init__(self, name: str | None, count: UsageCount | None, needle: bytes) -> None:
        self._name = name
        self._count = count
        self._needle = needle
        self._cutter = LineCutter()

    @property
    def usage(self) -> Usage | None:
        return self._count.usage if self._count else None

    @property
    def changes(self) -> HeaderChanges:
        return _RENAMED if self._name else NO_CHANGES

    def feed(self, data: bytes, end: bool) -> bytes:
        passed = [
            self._lines(piece) if whole else piece for piece, whole in self._cutter.feed(data)
        ]
        if end:
            passed.append(self._lines(self._cutter.end()))
        return b"".join(passed) if self._name else data

    def _lines(self, lines: bytes) -> bytes:
        if self._count:
            for start, end in payloads(lines, self._needle):
                self._count.read(lines[start:end])
        return self._renamed(lines, self._name) if self._name else lines

    def _renamed(self, lines: bytes, name: str) -> bytes:
        parts: list[bytes] = []
        done = 0
        for start, end in payloads(lines, b'"model"'):
            parts += (lines[done:start], rename_model(lines[start:end], name))
            done = end
        return b"".join((*parts, lines[done:]))


class JsonBody:
    """One JSON object, in as many chunks as the network makes of it."""

    __slots__ = ("_count", "_renamer", "_tail")

    def __init__(self, name: str | None, count: UsageCount | None) -> None:
        self._renamer = _JsonRenamer(name) if name else None
        self._count = count
        self._tail = JsonTail()

    @property
    def usage(self) -> Usage | None:
        return self._count.usage if self._count else None

    @property
    def changes(self) -> HeaderChanges:
        return _RENAMED if self._renamer else NO_CHANGES

    def feed(self, data: bytes, end: bool) -> bytes:
        if self._count:
            self._tail.feed(data)
            if end:
                self._tail.read_into(self._count)
        return self._renamer.feed(data, end) if self._renamer else data


class _JsonRenamer:
    """Holds the beginning back until it names the model; from then on everything just passes."""

    __slots__ = ("_done", "_held", "_name", "_next_try")

    def __init__(self, name: str) -> None:
        self._name = name
        self._held = bytearray()
        self._next_try = _FIRST_TRY
        self._done = False

    def feed(self, data: bytes, end: bool) -> bytes:
        if self._done:
            return data
        self._held += data
        if not end and len(self._held) < self._next_try:
            return b""
        return self._try(end)

    def _try(self, end: bool) -> bytes:
        """Tries come at doubled lengths, so that all of them together cost twice the last."""
        text = bytes(self._held)
        renamed = rename_model(text, self._name)
        self._next_try = min(2 * len(text), MOST_HELD_BYTES + 1)
        self._done = end or renamed is not text or len(text) > MOST_HELD_BYTES
        if not self._done:
            return b""
        self._held.clear()
        return renamed
