"""Token counts out of response bytes: the dialects of OpenAI, Anthropic and SGLang.

Of several reports the later one wins, field by field: vLLM repeats them in every event when asked
to, Anthropic splits them between the first event and the last.
"""

import re
from typing import Annotated, Final, TypeAlias

import msgspec

from epp.domain.response import Usage
from epp.request.structure import nesting

Tokens: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None

MOST_JSON_BYTES: Final = 128 * 1024
"""Of a JSON response so much of its end is kept; servers write usage last."""


_MOST_TRIES: Final = 8


class _Details(msgspec.Struct):
    cached_tokens: Tokens = None


class _Counts(msgspec.Struct):
    prompt_tokens: Tokens = None
    input_tokens: Tokens = None
    completion_tokens: Tokens = None
    output_tokens: Tokens = None
    cached_tokens: Tokens = None
    cache_read_input_tokens: Tokens = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None

    @property
    def prompt(self) -> int | None:
        return self.input_tokens if self.prompt_tokens is None else self.prompt_tokens

    @property
    def completion(self) -> int | None:
        return self.output_tokens if self.completion_tokens is None else self.completion_tokens

    @property
    def cached(self) -> int | None:
        details = self.prompt_tokens_details or self.input_tokens_details
        if details is not None and details.cached_tokens is not None:
            return details.cached_tokens
        return self.cache_read_input_tokens if self.cached_tokens is None else self.cached_tokens


class _Inner(msgspec.Struct):
    usage: _Counts | None = None


class _Report(msgspec.Struct):
    usage: _Counts | None = None
    meta_info: _Counts | None = None
    response: _Inner | str | None = None
    message: _Inner | str | None = None

    def counts(self) -> _Counts | None:
        """Wherever this dialect puts them."""
        inner = self.response or self.message
        inside = inner.usage if isinstance(inner, _Inner) else None
        return self.usage or self.meta_info or inside


_REPORT: Final = msgspec.json.Decoder(_Report)
_COUNTS: Final = msgspec.json.Decoder(_Counts)
_KEY: Final = re.compile(rb'"(?:usage|meta_info)"[ \t\r\n]*:[ \t\r\n]*(?P<counts>\{)')


class UsageCount:
    """What has been reported so far."""

    __slots__ = ("_cached", "_completion", "_prompt")

    def __init__(self) -> None:
        self._prompt: int | None = None
        self._completion: int | None = None
        self._cached: int | None = None

    @property
    def usage(self) -> Usage | None:
        """The counts, or None if nothing was reported."""
        if self._prompt is None and self._completion is None:
            return None
        return Usage(self._prompt or 0, self._completion or 0, self._cached)

    def read(self, text: bytes) -> None:
        """One JSON object of the response; what is not one says nothing."""
        try:
            counts = _REPORT.decode(text).counts()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        self.add(counts)

    def read_end(self, text: bytes) -> None:
        """The end of a JSON object whose beginning is gone: its last top-level usage."""
        for found in reversed(list(_KEY.finditer(text))[-_MOST_TRIES:]):
            counts = _counts_at(text, found.start("counts"))
            if counts is not None:
                return self.add(counts)
        return None

    def add(self, counts: _Counts | None) -> None:
        """Take over the fields that are given."""
        if counts is None:
            return
        if counts.prompt is not None:
            self._prompt = counts.prompt
        if counts.completion is not None:
            self._completion = counts.completion
        if counts.cached is not None:
            self._cached = counts.cached


def _counts_at(text: bytes, start: int) -> _Counts | None:
    """The counts whose object begins at `start`, if it belongs to the object that `text` ends."""
    end = _end_of_object(text, start)
    if end < 0 or nesting(text[end:]) != -1:
        return None
    try:
        return _COUNTS.decode(text[start:end])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _end_of_object(text: bytes, start: int) -> int:
    """Where the object that begins at `start` ends; counts hold no strings with brackets."""
    end = start
    while (end := text.find(b"}", end) + 1) > 0:
        if nesting(text[start:end]) == 0:
            return end
    return -1


class JsonTail:
    """The bytes of a JSON response, or its end where it is long."""

    __slots__ = ("_bytes", "_cut", "_most")

    def __init__(self, most: int = MOST_JSON_BYTES) -> None:
        self._most = most
        self._bytes = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Keep `data`; memory stays under twice the limit and one chunk."""
        self._bytes += data
        if len(self._bytes) > 2 * self._most:
            del self._bytes[: -self._most]
            self._cut = True

    def read_into(self, count: UsageCount) -> None:
        """What the response reported, into `count`."""
        if self._cut:
            count.read_end(bytes(self._bytes))
        else:
            count.read(bytes(self._bytes))
