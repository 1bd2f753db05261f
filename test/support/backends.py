"""Plain HTTP servers behind a gateway that say what reached them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

LARGEST = 64 << 20


class Backend:
    """Answers every request with its own name and what it was sent."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.requests = 0
        app = web.Application(client_max_size=LARGEST)
        app.router.add_route("*", "/{path:.*}", self.answer)
        self._runner = web.AppRunner(app)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Nobody listens on its port any more."""
        await self._runner.cleanup()

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        return web.json_response({"who": self.name, "bytes": len(body), "headers": headers})


@asynccontextmanager
async def backends(*names: str) -> AsyncIterator[list[Backend]]:
    """One backend for each name, on free ports of the loopback."""
    running = [Backend(name) for name in names]
    try:
        for backend in running:
            await backend.start()
        yield running
    finally:
        for backend in running:
            await backend.stop()
