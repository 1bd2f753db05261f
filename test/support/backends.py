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

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        return web.json_response({"who": self.name, "bytes": len(body), "headers": headers})


@asynccontextmanager
async def backends(*names: str) -> AsyncIterator[list[Backend]]:
    """One backend for each name, on free ports of the loopback."""
    running, runners = [], []
    try:
        for name in names:
            backend = Backend(name)
            app = web.Application(client_max_size=LARGEST)
            app.router.add_route("*", "/{path:.*}", backend.answer)
            runner = web.AppRunner(app)
            runners.append(runner)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            backend.port = runner.addresses[0][1]
            running.append(backend)
        yield running
    finally:
        for runner in runners:
            await runner.cleanup()
