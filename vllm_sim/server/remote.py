"""Tells prefill replicas that their KV was read, so that they free it before the lease ends."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

TIMEOUT_S = 2.0


class RemotePrefills:
    """Sends one small request for each KV read; a prefill replica that is gone is no matter.

    `secure`: the others speak TLS, as this one does; nobody vouches for their certificates.
    """

    def __init__(self, *, secure: bool = False) -> None:
        self._scheme = "https" if secure else "http"
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, source: dict[str, Any] | None) -> None:
        """The KV that these kv_transfer_params name is no longer needed over there."""
        if not source or not source.get("remote_host") or not source.get("remote_port"):
            return
        task = asyncio.create_task(self._tell(source))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, source: dict[str, Any]) -> None:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            self._session = aiohttp.ClientSession(timeout=timeout)
        host = str(source["remote_host"])
        shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
        url = f"{self._scheme}://{shown}:{source['remote_port']}/sim/kv_read"
        try:
            told = {"request_id": source.get("remote_request_id")}
            async with self._session.post(url, json=told, ssl=False) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._session is not None:
            await self._session.close()
