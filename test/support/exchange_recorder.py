"""Records what real Envoy writes to a picker, for test/testdata/exchanges.

    PYTHONPATH=test python -m support.exchange_recorder [FOLDER]

One file for each way the two can speak. A proxy stands between Envoy and our own wire and notes
Envoy's frames, each with what Envoy had heard on that stream by then.
"""

import asyncio
import contextlib
import sys
from collections import defaultdict
from pathlib import Path

import aiohttp
from aiohttp import web
from support.envoy import envoy
from support.exchange_replay import Ears, Frame, Recording, frames_in
from support.exchange_script import Script, scripted
from support.h2_client import post

from epp.cli.envoy_config import config_yaml
from epp.cli.envoy_template import Gateway
from epp.wire.frames import PREFACE
from epp.wire.session import PROCESS
from epp.wire.sockets import Listening, Server

FOLDER = Path(__file__).parents[1] / "testdata" / "exchanges"
CHAT = "/v1/chat/completions"
SETTLE_SECONDS = 0.2


class Line:
    """One connection of Envoy's, passed on and noted."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.ears = Ears()
        self._rest = b""
        self._greeted = False

    def note(self, data: bytes) -> None:
        self._rest += data
        if not self._greeted and len(self._rest) >= len(PREFACE):
            self._greeted = True
            self._rest = self._rest.removeprefix(PREFACE)
        if self._greeted:
            whole, self._rest = frames_in(self._rest)
            self.frames += [Frame(self._heard(each), each) for each in whole]

    def _heard(self, data: bytes) -> int:
        stream = int.from_bytes(data[5:9], "big")
        return self.ears.streams[stream].count if stream else 0

    @property
    def recording(self) -> Recording:
        streams = {each.stream for each in self.frames if each.stream}
        return Recording.of(self.frames, {n: self.ears.streams[n].count for n in sorted(streams)})


class Proxy:
    """Stands between Envoy and `port`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.lines: dict[int, Line] = defaultdict(Line)
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self):
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield

    async def _carry(self, near, answers) -> None:
        line = self.lines[len(self.lines)]
        far, requests = await asyncio.open_connection("127.0.0.1", self._port)
        up = asyncio.create_task(self._pump(near, requests, line.note))
        down = asyncio.create_task(self._pump(far, answers, line.ears.hear))
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        for end in (requests, answers):
            end.close()

    @staticmethod
    async def _pump(source, sink, note) -> None:
        while data := await source.read(1 << 16):
            note(data)
            sink.write(data)
            await sink.drain()


async def answer(request: web.Request) -> web.StreamResponse:
    """A model server of few words; `/stream` says half a thing and waits."""
    await request.read()
    if request.path != "/stream":
        return web.json_response({"ok": True}, status=int(request.headers.get("x-status", 200)))
    response = web.StreamResponse()
    response.content_type = "text/event-stream"
    await response.prepare(request)
    for number in range(3):
        await response.write(b"data: %d\n\n" % number)
        await asyncio.sleep(0.02)
    if "hang" in request.query:
        await asyncio.sleep(60)
    return response


@contextlib.asynccontextmanager
async def model_server():
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def talk(url: str) -> None:
    """Requests of every kind, one after the other."""
    host, port = url.removeprefix("http://").split(":")
    async with aiohttp.ClientSession() as client:
        for script in ("", "later", "change", "refuse", "break"):
            await say(client, url + CHAT, b'{"model": "m"}', {"x-test": script})
        await say(client, url + CHAT, b"", {})
        await say(client, url + CHAT, b"x" * 20_000, {})
        await say(client, url + CHAT, b"x" * 40_000, {})
        await say(client, url + CHAT, pieces(b"a" * 10, b"b" * 9_000, b"c"), {})
        await say(client, url + CHAT, b"{}", {"x-status": "500"})
        await say(client, url + "/stream", b"{}", {})
        async with client.get(url + "/v1/models") as models:
            await models.read()
        await post(host, int(port), CHAT, b"{}", trailers=True)
        await leave(client, url + "/stream?hang", {})
        await leave(client, url + CHAT, {"x-test": "wait"})
    await asyncio.sleep(SETTLE_SECONDS)


async def pieces(*data: bytes):
    for each in data:
        yield each


async def say(client, url: str, body, headers: dict[str, str]) -> None:
    async with client.post(url, data=body, headers=headers) as answered:
        await answered.read()
    await asyncio.sleep(SETTLE_SECONDS)


async def leave(client, url: str, headers: dict[str, str]) -> None:
    """Ask, and hang up before the answer has ended."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5), client.post(url, data=b"{}", headers=headers) as answered:
            await answered.read()
    await asyncio.sleep(SETTLE_SECONDS)


async def record(request: str, response: str) -> Recording:
    """What Envoy writes in these modes."""
    async with model_server() as model:
        server = Server({PROCESS: scripted(Script(f"127.0.0.1:{model}"))}, print)
        proxy = Proxy(await server.listen(Listening()))
        async with proxy.listening():
            config = config_yaml(
                Gateway(
                    request=request,
                    response=response,
                    balancing="original-dst",
                    pickers=(("127.0.0.1", proxy.port),),
                    picker_tls=False,
                    fail_open=False,
                )
            )
            async with envoy(config) as gateway:
                await talk(gateway.url)
                # The longest: health is checked on a connection of its own.
                line = max(proxy.lines.values(), key=lambda line: len(line.frames))
                recording = line.recording
        await server.close()
    return recording


async def main(folder: Path) -> None:
    for request in ("duplex", "buffered"):
        for response in ("full", "watch", "forget"):
            recording = await record(request, response)
            recording.save(folder / f"{request}-{response}.jsonl")
            print(request, response, len(recording.frames), "frames", recording.heard)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
