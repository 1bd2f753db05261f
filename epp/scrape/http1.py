"""One page over HTTP/1.1, on a connection that is kept: no redirects, a bounded body.

A general client costs twice what everything else about a scrape does, since it builds URLs, cookies
and header maps that a scrape has no use for (`test/bench/bench_scrape.py`). What is needed here is
small: one request at a time with constant bytes, a status, and a body by length, in chunks or to
the end of the connection. Whatever is not plainly that is refused and the connection closed.
"""

import asyncio
import re
from typing import Final, cast

from epp.scrape.stats import ScrapeError

MAX_HEAD: Final = 64 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r\n", re.IGNORECASE)
_TRANSFER: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)
_ENCODED: Final = re.compile(rb"\r\ncontent-encoding:[ \t]*(?!identity)[^ \t\r\n]", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection:[^\r\n]*\bclose\b", re.IGNORECASE)
_CHUNK: Final = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
_TRAILERS: Final = re.compile(rb"(?:[^\r\n]+\r\n)*\r\n")


class Unanswered(ScrapeError):
    """The connection ended before the first byte: on a kept one the server was just closing it."""

    def __init__(self, message: str) -> None:
        super().__init__("connect", message)


class Page:
    """Reads one answer from bytes as they come; pure. `body` is None until it is whole."""

    __slots__ = ("_body_at", "_bytes", "_chunked", "_length", "_most", "body", "keeps")

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = bytearray()
        self._body_at = 0
        self._length: int | None = None
        self._chunked = False
        self.keeps = True
        """Whether the connection may serve another request."""
        self.body: bytes | None = None

    def feed(self, data: bytes) -> None:
        """Take more bytes. Raises `ScrapeError` once they cannot become a page."""
        self._bytes += data
        if not self._body_at:
            self._read_head()
        if self._body_at:
            self._read_body()

    def end(self) -> None:
        """The connection has ended. Raises `ScrapeError` if the page is not whole by that."""
        if self.body is None and self._body_at and self._length is None and not self._chunked:
            self.body = bytes(self._bytes[self._body_at :])
        if not self._bytes:
            raise Unanswered("the connection ended before an answer")
        if self.body is None:
            raise ScrapeError("connect", "the connection ended before the page did")

    def _read_head(self) -> None:
        end = self._bytes.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            if len(self._bytes) >= MAX_HEAD:
                raise ScrapeError("connect", f"no end of the headers within {MAX_HEAD} bytes")
            return
        head = bytes(self._bytes[: end + 2])
        _check_status(head)
        if _ENCODED.search(head):
            raise ScrapeError("connect", "the page is compressed though that was not asked for")
        self._body_at = end + 4
        self.keeps = head.startswith(b"HTTP/1.1") and not _CLOSE.search(head)
        self._read_framing(head)

    def _read_framing(self, head: bytes) -> None:
        lengths = {int(length) for length in _LENGTH.findall(head)}
        transfers = _TRANSFER.findall(head)
        if transfers and (transfers[0].lower() != b"chunked" or len(transfers) > 1 or lengths):
            raise ScrapeError("connect", "a transfer encoding other than chunked")
        if len(lengths) > 1 or (not lengths and b"\r\ncontent-length:" in head.lower()):
            raise ScrapeError("connect", "an unreadable content length")
        self._chunked = bool(transfers)
        if lengths:
            self._length = lengths.pop()
            self._check_size(self._length)
        elif not transfers:
            self.keeps = False

    def _read_body(self) -> None:
        have = len(self._bytes) - self._body_at
        if self._length is not None:
            if have > self._length:
                raise ScrapeError("connect", "more bytes than the page is long")
            if have == self._length:
                self.body = bytes(self._bytes[self._body_at :])
        elif self._chunked:
            self._check_size(have // 2)
            if self._bytes.endswith(b"\r\n\r\n") or self._bytes.endswith(b"\n0\r\n\r\n"):
                self.body = self._unchunked()
        else:
            self._check_size(have)

    def _check_size(self, size: int) -> None:
        if size > self._most:
            raise ScrapeError("size", f"the page is longer than {self._most} bytes")

    def _unchunked(self) -> bytes | None:
        """All chunks together; None while the last one has not come."""
        data, at, size = self._bytes, self._body_at, 0
        parts: list[bytes] = []
        while match := _CHUNK.match(data, at):
            length = int(match[1], 16)
            if not length:
                return b"".join(parts) if _ends(data, match.end()) else None
            at = match.end() + length
            if at + 2 > len(data):
                return None
            if data[at : at + 2] != b"\r\n":
                break
            size += length
            self._check_size(size)
            parts.append(bytes(data[match.end() : at]))
            at += 2
        if len(data) - at < 10:
            return None
        raise ScrapeError("connect", "unreadable chunks")


def _ends(data: bytearray, at: int) -> bool:
    match = _TRAILERS.match(data, at)
    if match is not None and match.end() < len(data):
        raise ScrapeError("connect", "more bytes than the page is long")
    return match is not None


def _check_status(head: bytes) -> None:
    match = _STATUS.match(head)
    if match is None:
        raise ScrapeError("connect", "the answer is not HTTP/1.1")
    status = int(match[1])
    if 300 <= status < 400:
        raise ScrapeError("redirect", f"status {status}: redirects are not followed")
    if status != 200:
        raise ScrapeError("status", f"status {status} where 200 is expected")


class PageConnection(asyncio.Protocol):
    """A connection that fetches one page after another."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._transport: asyncio.Transport | None = None
        self._page: Page | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self.is_open = False

    async def fetch(self, request: bytes) -> bytes:
        """The page that `request` asks for. Raises `ScrapeError`; cancelling closes."""
        if self._transport is None or not self.is_open:
            raise ScrapeError("connect", "the connection is closed")
        self._page = Page(self._most)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(request)
            return await self._waiter
        except BaseException:
            # An answer that nobody waits for must not be taken for the next one's.
            self.close()
            raise
        finally:
            self._page = self._waiter = None

    def close(self) -> None:
        """Close at once; a fetch under way fails."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses.
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._page is None or self._waiter is None:
            self.close()  # Nobody asked.
            return
        try:
            self._page.feed(data)
        except ScrapeError as error:
            self._finish(error)
            return
        if self._page.body is not None:
            self._finish(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._page is None:
            return
        try:
            self._page.end()
        except ScrapeError as failure:
            self._finish(failure)
        else:
            self._finish(None)

    def _finish(self, error: ScrapeError | None) -> None:
        page, waiter = self._page, self._waiter
        if page is None or waiter is None or waiter.done():
            return
        if error is not None:
            waiter.set_exception(error)
            return
        assert page.body is not None
        if not page.keeps:
            self.close()
        waiter.set_result(page.body)
