"""Reads wanted names out of a page in Prometheus text format, and nothing else.

A page of an engine has some 500 lines of which we need seven: a byte search for each name costs
microseconds where a full parse costs ten milliseconds (`test/bench/bench_scrape.py`). Understands
escapes and braces in label values, timestamps, exemplars, CRLF and a missing last newline; help and
type lines and names that merely begin alike are passed over. It relies on the format's rule that
the lines of a family stand together, and does not read quoted UTF-8 names.
"""

import functools
import re
from collections.abc import Mapping
from typing import Final

import msgspec

_REST: Final = re.compile(
    rb"[ \t]*"
    rb'(?:\{((?:[^"}\n]++|"(?:[^"\\\n]++|\\.)*+")*+)\}[ \t]*|(?<=[ \t]))'
    rb"([^ \t\r\n]+)"
)
"""What follows the name: labels with their braces or a blank, then the value."""
_LABEL: Final = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*+)"')
_ESCAPE: Final = re.compile(rb'\\([\\"n])')
_NAME_BYTES: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:")
_NEWLINE: Final = 0x0A
_HASH: Final = 0x23
_LABELS_KEPT: Final = 2048


class PageError(ValueError):
    """A page that cannot be read; the message says where, without showing more than a line."""


class Series(msgspec.Struct, frozen=True):
    """One line of a family. `raw_labels` is the text between its braces, as it stands."""

    raw_labels: bytes
    value: float

    @property
    def labels(self) -> Mapping[str, str]:
        """Label names to values, unescaped; bytes that are no UTF-8 are replaced."""
        return _labels(self.raw_labels)


@functools.lru_cache(_LABELS_KEPT)
def _labels(raw: bytes) -> Mapping[str, str]:
    # Pages repeat their labels: 12 us for vLLM's cache_config_info, 0.1 us from here.
    return {
        name.decode(): _ESCAPE.sub(_unescape, value).decode(errors="replace")
        for name, value in _LABEL.findall(raw)
    }


def _unescape(match: re.Match[bytes]) -> bytes:
    return b"\n" if match[1] == b"n" else match[1]


def read(page: bytes, name: bytes) -> list[Series]:
    """All series called `name`, in the order of the page. Raises `PageError` at a broken line."""
    found: list[Series] = []
    stem = name.removesuffix(b"_total")
    at = _next_line(page, name, 0)
    while at >= 0:
        end = at + len(name)
        if not _continues(page, end):
            series, end = _series(page, at, end)
            found.append(series)
            if not _family_goes_on(page, end, stem):
                break
        at = _next_line(page, name, end)
    return found


def _next_line(page: bytes, name: bytes, start: int) -> int:
    """Where the next line that begins with `name` has it; -1 if there is none."""
    near = page.find(name, start)
    if near <= 0 or page[near - 1] == _NEWLINE:
        return near
    if page[page.rfind(b"\n", 0, near) + 1 : near].isspace():
        return near
    # The first hit is the help line as a rule, and the sample a few bytes on.
    at = page.find(b"\n" + name, near) + 1
    return at if at and not _is_indented(page, near, at) else _indented(page, name, near)


def _is_indented(page: bytes, start: int, end: int) -> bool:
    return page.find(b"\n ", start, end) >= 0 or page.find(b"\n\t", start, end) >= 0


def _indented(page: bytes, name: bytes, at: int) -> int:
    """As `_next_line`, slowly: lines may begin with blanks, though nobody writes them."""
    while at > 0 and page[page.rfind(b"\n", 0, at) + 1 : at].strip():
        at = page.find(name, at + 1)
    return at


def _family_goes_on(page: bytes, at: int, stem: bytes) -> bool:
    """Whether another line of the family follows the one that holds `at`."""
    while (at := page.find(b"\n", at) + 1) and at < len(page):
        if page.startswith(stem, at):
            return True
        if page.startswith((b"# HELP", b"# TYPE"), at):
            return False
        line = page[at : at + 128].split(b"\n", 1)[0].strip()
        if line and line[0] != _HASH:
            return line.startswith(stem)
    return False


def _continues(page: bytes, end: int) -> bool:
    return end < len(page) and page[end] in _NAME_BYTES


def _series(page: bytes, at: int, end: int) -> tuple[Series, int]:
    """The series whose name stands from `at` to `end`, and where its value ends."""
    match = _REST.match(page, end)
    if match is None:
        raise PageError(f"no value in line {_line_at(page, at)!r}")
    labels, value = match.groups()
    if b"_" in value:
        # Python would read 1_000 as a number; the format does not.
        raise PageError(f"no number in line {_line_at(page, at)!r}")
    try:
        return Series(labels or b"", float(value)), match.end()
    except ValueError:
        raise PageError(f"no number in line {_line_at(page, at)!r}") from None


def _line_at(page: bytes, at: int) -> str:
    line = page[at : at + 120].split(b"\n", 1)[0]
    return line.decode(errors="replace").rstrip()
