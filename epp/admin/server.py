"""Two listeners: metrics for scrapers, debug pages for people at this machine."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import web
from prometheus_client.registry import CollectorRegistry

from epp.admin.debug import DebugPages, DebugSources
from epp.admin.exposition import exposition
from epp.errors import CannotListen

Authorize: TypeAlias = Callable[[Mapping[str, str]], Awaitable[int]]
"""Given the headers (names in lower case), returns 200, or the status to refuse with: 401, 403."""

STOP_SECONDS: Final = 2.0


@dataclass(slots=True, frozen=True)
class AdminPorts:
    """The ports that were bound; `debug` is None where debug pages are off."""

    metrics: int
    debug: int | None


class Admin:
    """Serves `/metrics` and the debug pages from `start` to `stop`.

    An empty `metrics_host` means all addresses. Port 0 takes a free one; `debug_port` None serves
    no debug pages.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        sources: DebugSources,
        *,
        metrics_host: str = "",
        metrics_port: int = 9090,
        debug_host: str = "127.0.0.1",
        debug_port: int | None = 9091,
        authorize: Authorize | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._registry = registry
        self._sources = sources
        self._metrics_at = (metrics_host, metrics_port)
        self._debug_host = debug_host
        self._debug_port = debug_port
        self._authorize = authorize
        self._tls = tls
        self._runners: list[web.AppRunner] = []

    async def start(self) -> AdminPorts:
        """Bind and serve. Raises CannotListen; nothing stays open then."""
        try:
            metrics = await self._listen("--metrics-port", self._metrics_app(), *self._metrics_at)
            debug = None
            if self._debug_port is not None:
                app = DebugPages(self._sources).application()
                at = (self._debug_host, self._debug_port)
                debug = await self._listen("--debug-port", app, *at)
        except BaseException:
            await self.stop()
            raise
        return AdminPorts(metrics, debug)

    async def stop(self) -> None:
        """Close both listeners; pages being written get two seconds."""
        while self._runners:
            await self._runners.pop().cleanup()

    def listening(self) -> list[tuple[str, int]]:
        """Host and port of each listener, metrics first."""
        return [address[:2] for runner in self._runners for address in runner.addresses]

    async def _listen(self, flag: str, app: web.Application, host: str, port: int) -> int:
        tls = self._tls if flag == "--metrics-port" else None
        try:
            return await self._serve(app, host, port, tls)
        except OSError as error:
            raise CannotListen(flag, port, error) from error

    async def _serve(
        self, app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> int:
        listener = bind(host, port)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=STOP_SECONDS, handle_signals=False
        )
        try:
            await runner.setup()
            self._runners.append(runner)
            await web.SockSite(runner, listener, ssl_context=tls).start()
        except BaseException:
            listener.close()
            raise
        bound: int = listener.getsockname()[1]
        return bound

    def _metrics_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        if self._authorize is not None:
            headers = {name.lower(): value for name, value in request.headers.items()}
            status = await self._authorize(headers)
            if status != 200:
                return denied(status)
        content_type, pieces = exposition(self._registry, request.headers.get("Accept", ""))
        text = []
        for piece in pieces:
            text.append(piece)
            await asyncio.sleep(0)
        body = "".join(text).encode()
        return web.Response(body=body, headers={"Content-Type": content_type})


def denied(status: int) -> web.Response:
    """The answer to a scraper that may not read."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return web.Response(status=status, text="not allowed to read metrics\n", headers=headers)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; an empty host is every address, IPv6 and IPv4 where there is both."""
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    if socket.has_dualstack_ipv6():
        # A kernel may know IPv6 and still have no address of it.
        with suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
