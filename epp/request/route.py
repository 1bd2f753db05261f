"""Which parser reads a path: the one with the longest ending, by whole segments."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar
from urllib.parse import unquote

from epp.domain.headers import Headers
from epp.domain.request import Head, ParsedBody
from epp.errors import BadRequest
from epp.points import Parser

T = TypeVar("T")
Reader: TypeAlias = Callable[[bytes], ParsedBody]
"""Reads the bodies of one path. Raises `BadRequest`, `TooLarge`."""

_PATH_HEADERS: Final = (":path", "x-original-path", "x-forwarded-path")
_DEFAULT_PATH: Final = "/v1/completions"
_PARAMETERS: Final = re.compile(r";[^/]*")


def path_of(headers: Headers) -> str:
    """The request's path as a server's routes see it, to choose a parser by and nothing else.

    Percent signs are decoded, the query and `;parameters` gone. What a gateway left out is taken
    for completions.
    """
    for name in _PATH_HEADERS:
        if path := headers.get(name):
            return _plain(path.partition("?")[0])
    return _DEFAULT_PATH


def _plain(path: str) -> str:
    if ";" in path:
        path = _PARAMETERS.sub("", path)
    return unquote(path) if "%" in path else path


def by_ending(path: str, table: Mapping[str, T], segments: int = 4) -> T | None:
    """What `table` holds under the longest ending of `path`; endings are whole segments.

    `/foo/my-completions` does not end with `completions`. Endings have at most `segments` parts.
    """
    rest = path.strip("/")
    if rest.count("/") >= segments:
        rest = "/".join(rest.rsplit("/", segments)[1:])
    while rest:
        found = table.get(rest)
        if found is not None:
            return found
        rest = rest.partition("/")[2]
    return None


class Routes:
    """Path endings to parsers. Of two parsers with one ending the first stands."""

    __slots__ = ("_by_ending", "_catch_all", "_segments")

    def __init__(self, parsers: Sequence[Parser]) -> None:
        endings = [(path.strip("/"), parser) for parser in parsers for path in parser.paths]
        self._by_ending = dict(reversed(endings))
        self._segments = max((path.count("/") + 1 for path in self._by_ending), default=1)
        self._catch_all = next((parser for parser in parsers if not parser.paths), None)

    def parser(self, path: str) -> Parser | None:
        """The parser for `path`, else the one that claims no path, else None."""
        return by_ending(path, self._by_ending, self._segments) or self._catch_all


def read_by(readers: Mapping[str, Reader], head: Head, body: bytes) -> ParsedBody:
    """`body` read by the reader whose path ending is the longest."""
    reader = by_ending(path_of(head.headers), readers)
    if reader is None:
        raise BadRequest("path: not one this parser reads; check the parser's configuration")
    return reader(body)
