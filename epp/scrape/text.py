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
_BLANKS: Final = b" \t"


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
    found = []
    stem = name.removesuffix(b"_total")
    at = page.find(name)
    while at >= 0:
        end = at + len(name)
        if _begins_line(page, at) and not _continues(page, end):
            found.append(_series(page, at, end))
            if not _family_goes_on(page, end, stem):
                break
        at = page.find(name, end)
    return found


def _family_goes_on(page: bytes, at: int, stem: bytes) -> bool:
    """Whether another line of the family follows the one at `at`."""
    while (at := page.find(b"\n", at) + 1) and at < len(page):
        if page.startswith(stem, at):
            return True
        line = page[at : at + 128].split(b"\n", 1)[0].strip()
        if line.startswith((b"# HELP", b"# TYPE")):
            return False
        if line and line[0] != _HASH:
            return line.startswith(stem)
    return False


def _begins_line(page: bytes, at: int) -> bool:
    if at == 0 or page[at - 1] == _NEWLINE:
        return True
    if page[at - 1] not in _BLANKS:
        return False
    return not page[page.rfind(b"\n", 0, at) + 1 : at].strip()


def _continues(page: bytes, end: int) -> bool:
    return end < len(page) and page[end] in _NAME_BYTES


def _series(page: bytes, at: int, end: int) -> Series:
    match = _REST.match(page, end)
    if match is None:
        raise PageError(f"no value in line {_line_at(page, at)!r}")
    labels, value = match.groups()
    if b"_" in value:
        # Python would read 1_000 as a number; the format does not.
        raise PageError(f"no number in line {_line_at(page, at)!r}")
    try:
        return Series(labels or b"", float(value))
    except ValueError:
        raise PageError(f"no number in line {_line_at(page, at)!r}") from None


def _line_at(page: bytes, at: int) -> str:
    line = page[at : at + 120].split(b"\n", 1)[0]
    return line.decode(errors="replace").rstrip()
