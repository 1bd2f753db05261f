"""Server-sent events written straight to the connection.

aiohttp's own write is a coroutine for each chunk; a step of 200 streams writes 200 of them. Here
the headers go out through aiohttp, the events as ready chunks on the transport.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BUFFERED = 4 * 1024 * 1024
"""Bytes a client may leave unread before it counts as gone."""
TRICKLE_S = 0.02
DONE = b"data: [DONE]\n\n"


class EventStream:
    """An open event stream. `broken` is set once the client is gone or was cut off."""

    def __init__(self, request: web.Request, headers: Mapping[str, str]) -> None:
        self._request = request
        self._response = web.StreamResponse(headers=headers)
        self._response.content_type = "text/event-stream"
        self._response.charset = "utf-8"
        self._transport: asyncio.Transport | None = None
        self._chunked = request.version >= (1, 1)
        self._tokens_left = -1
        self._early: list[bytes] = []
        self._rate = 0.0
        self._trickle: Trickle | None = None
        self.broken = False

    def trickle(self, rate: float) -> None:
        """Lets so many bytes a second out, whatever is written."""
        self._rate = rate

    def cut_after(self, tokens: int) -> None:
        """Resets the connection once that many tokens were written."""
        self._tokens_left = tokens

    async def open(self) -> web.StreamResponse:
        """Sends the headers now, before any token exists."""
        if self._chunked:
            self._response.enable_chunked_encoding()
        else:
            self._response.force_close()
        await self._response.prepare(self._request)
        self._transport = self._request.transport
        if self._rate and isinstance(self._transport, asyncio.Transport):
            self._trickle = Trickle(self._transport, self._rate)
        for event in self._early:
            self.write(event)
        self._early.clear()
        return self._response

    def write(self, event: bytes, *, tokens: int = 0) -> None:
        """Sends one whole event, or drops it when nobody can read it any more."""
        transport = self._transport
        if transport is None:
            self._early.append(event)
            return
        if transport.is_closing():
            self.broken = True
            return
        if transport.get_write_buffer_size() > MAX_BUFFERED:
            self._cut()
            return
        chunk = b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event
        (self._trickle or transport).write(chunk)
        if tokens and self._tokens_left >= 0:
            self._tokens_left -= tokens
            if self._tokens_left <= 0:
                self._cut()

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.broken = True

    async def close(self) -> web.StreamResponse:
        if self._trickle is not None:
            await self._trickle.emptied()
        if not self.broken:
            await self._response.write_eof()
        return self._response


class Trickle:
    """Bytes on their way to a connection at so many a second, by the real clock.

    Timers and no task: when the connection closes, what is left is dropped and nothing remains.
    """

    def __init__(self, transport: asyncio.Transport, rate: float) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._every = max(TRICKLE_S, 1 / rate)
        self._share = max(int(rate * self._every), 1)
        self._left = bytearray()
        self._empty = asyncio.Event()
        self._empty.set()

    def write(self, data: bytes) -> None:
        idle = not self._left
        self._left += data
        if idle:
            self._empty.clear()
            self._loop.call_later(self._every, self._drip)

    def _drip(self) -> None:
        if self._transport.is_closing():
            self._left.clear()
        else:
            self._transport.write(bytes(self._left[: self._share]))
            del self._left[: self._share]
        if self._left:
            self._loop.call_later(self._every, self._drip)
        else:
            self._empty.set()

    async def emptied(self) -> None:
        """Waits until all is out, or nobody is there to take it."""
        await self._empty.wait()
