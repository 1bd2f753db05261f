"""What a kubelet serves to the API server: a container's log, and commands run in it.

Logs are plain HTTP; exec speaks the `v4.channel.k8s.io` WebSocket protocol, which the API
server hands through as the client sent it.
"""

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path

from aiohttp import WSMsgType, web
from support.pod_runner import PodRunner

PORT = 10250
PROTOCOLS = ("v4.channel.k8s.io",)
STDIN, STDOUT, STDERR, ERROR = range(4)
FOLLOW_SECONDS = 0.1

Find = Callable[[str, str], PodRunner | None]


class Door:
    """The kubelet's HTTPS server for the pods that `find` knows by namespace and name."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._runner: web.AppRunner | None = None

    async def open(self, host: str, certificate: Path, key: Path) -> None:
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_get("/exec/{namespace}/{pod}/{container}", self._exec)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, PORT, ssl_context=context).start()

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _pod(self, request: web.Request) -> PodRunner:
        match = request.match_info
        found = self._find(match["namespace"], match["pod"])
        if found is None:
            raise web.HTTPNotFound(text=f"no pod {match['pod']} here")
        return found

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod(request)
        previous = request.query.get("previous") == "true"
        path = pod.log_path(request.match_info["container"], previous=previous)
        if not path.exists():
            raise web.HTTPNotFound(text=f"no log {path.name}")
        content = tail(path.read_bytes(), request.query.get("tailLines"))
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        await answer.write(content)
        if request.query.get("follow") == "true":
            await follow(path, len(path.read_bytes()), answer, pod)
        await answer.write_eof()
        return answer

    async def _exec(self, request: web.Request) -> web.WebSocketResponse:
        pod = self._pod(request)
        container = pod.containers[request.match_info["container"]]
        socket = web.WebSocketResponse(protocols=PROTOCOLS)
        await socket.prepare(request)
        process = await asyncio.create_subprocess_exec(
            *container.command(request.query.getall("command")),
            env=dict(container.env),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        reading = asyncio.create_task(feed(socket, process))
        await asyncio.gather(
            forward(process.stdout, socket, STDOUT), forward(process.stderr, socket, STDERR)
        )
        await socket.send_bytes(bytes([ERROR]) + status_of(await process.wait()))
        reading.cancel()
        await socket.close()
        return socket


async def forward(
    source: asyncio.StreamReader | None, socket: web.WebSocketResponse, channel: int
) -> None:
    assert source is not None
    while chunk := await source.read(32768):
        await socket.send_bytes(bytes([channel]) + chunk)


async def feed(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    """Standard input from the client; a client that leaves ends the command."""
    assert process.stdin is not None
    async for message in socket:
        if message.type is WSMsgType.BINARY and message.data[:1] == bytes([STDIN]):
            process.stdin.write(message.data[1:])
            await process.stdin.drain()
    if process.returncode is None:
        process.kill()


def status_of(code: int) -> bytes:
    """The last message of an exec: how the command ended."""
    if code == 0:
        return json.dumps({"metadata": {}, "status": "Success"}).encode()
    causes = [{"reason": "ExitCode", "message": str(code)}]
    failure = {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: {code}",
        "details": {"causes": causes},
    }
    return json.dumps(failure).encode()


def tail(content: bytes, lines: str | None) -> bytes:
    if lines is None:
        return content
    return b"".join(content.splitlines(keepends=True)[-int(lines) :])


def read_from(path: Path, at: int) -> bytes:
    """What a log holds from here on; nothing where it is gone."""
    try:
        with path.open("rb") as log:
            log.seek(at)
            return log.read()
    except FileNotFoundError:
        return b""


async def follow(path: Path, at: int, answer: web.StreamResponse, pod: PodRunner) -> None:
    while not pod.network_closed:
        if chunk := read_from(path, at):
            at += len(chunk)
            await answer.write(chunk)
        await asyncio.sleep(FOLLOW_SECONDS)
