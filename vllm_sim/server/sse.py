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
        self.broken = False

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
        transport.write(b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event)
        if tokens and self._tokens_left >= 0:
            self._tokens_left -= tokens
            if self._tokens_left <= 0:
                self._cut()

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.broken = True

    async def close(self) -> web.StreamResponse:
        if not self.broken:
            await self._response.write_eof()
        return self._response
