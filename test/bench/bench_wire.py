"""CPU of the wire per exchange: our own HTTP/2 against grpc.aio, in one run, on one machine.

    python test/bench/bench_wire.py [--seconds 2] [--json FILE]

Each server runs in a process of its own and answers bidi exchanges as Envoy's ext_proc makes them:
open, two messages in, two out, half-close, trailers. The client is a raw socket that replays frames
written beforehand, so it costs the servers alike. Figures are server CPU (user + system) per
exchange in microseconds; a CPU of this machine is what they mean, ratios travel better.
"""

# ruff: noqa: E402 - a script outside the package has to say first where the package is.

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

import uvloop
from support.http2_peer import grpc_head, message
from support.wire_fuzz import frame

from epp.wire import frames
from epp.wire.headers import encoded
from epp.wire.limits import Limits

SMALL = b"x" * 300


def exchange(stream: int, body: bytes, block: bytes) -> bytes:
    """One exchange as the client writes it, the window that its answers use given back."""
    first = message(SMALL)
    second = message(body)
    pieces = [second[at : at + 16_384] for at in range(0, len(second), 16_384)]
    return b"".join(
        (
            frame(frames.HEADERS, frames.END_HEADERS, stream, block),
            frame(frames.DATA, 0, stream, first),
            *(frame(frames.DATA, 0, stream, piece) for piece in pieces),
            frame(frames.DATA, frames.END_STREAM, stream),
        )
    )


class Client:
    """Writes batches of exchanges, waits until each stream has ended."""

    def __init__(self, port: int, body: bytes, at_once: int, secure: bool) -> None:
        raw = socket.create_connection(("127.0.0.1", port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = _secured(raw) if secure else raw
        self._body = body
        self._at_once = at_once
        head = grpc_head("/echo.Echo/Bidi")
        self._block = encoded([(n.encode(), v.encode()) for n, v in head])
        self._stream = 1
        self._rest = b""
        window = frames.settings_frame([(frames.Setting.INITIAL_WINDOW_SIZE, 1 << 28)])
        self._socket.sendall(frames.PREFACE + window + frames.window_frame(0, 1 << 28))
        self._socket.sendall(frames.SETTINGS_ACK)

    def batch(self) -> int:
        data = b"".join(
            exchange(self._stream + 2 * n, self._body, self._block) for n in range(self._at_once)
        )
        self._stream += 2 * self._at_once
        self._write_all(data)
        return self._at_once

    def _write_all(self, data: bytes) -> None:
        """Write and read in turns, as windows and buffers want it."""
        ended = read = 0
        view = memoryview(data)
        while ended < self._at_once:
            if view:
                view = view[self._socket.send(view[:65_536]) :]
                if view:
                    continue
            received = self._socket.recv(1 << 18)
            read += len(received)
            ended += self._count_ends(received)
        self._socket.sendall(frames.window_frame(0, max(1, read)))

    def _count_ends(self, data: bytes) -> int:
        data = self._rest + data
        at = ends = 0
        while len(data) - at >= 9:
            size = int.from_bytes(data[at : at + 3], "big")
            if at + 9 + size > len(data):
                break
            kind, flags = data[at + 3], data[at + 4]
            if kind == frames.GOAWAY:
                raise RuntimeError(f"the server gave up: {data[at : at + 9 + size]!r}")
            ends += kind in (frames.HEADERS, frames.DATA) and flags & frames.END_STREAM
            at += 9 + size
        self._rest = data[at:]
        return ends

    def close(self) -> None:
        self._socket.close()


def _secured(raw: socket.socket) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(raw)


def serve_own(pipe: Any, certificate: str | None) -> None:
    from support.wire_echo import EchoHandler

    from epp.wire.sockets import Listening, Server

    class Bidi:
        def open(self, call: Any) -> EchoHandler:
            return EchoHandler(call)

    async def run() -> None:
        tls = _provider(certificate)
        limits = Limits(stream_window=1 << 24, connection_window=1 << 26)
        server = Server({"/echo.Echo/Bidi": Bidi()}, _fail, limits=limits, tls=tls)
        pipe.send(await server.listen(Listening()))
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        await server.close()

    uvloop.run(run())


def serve_grpcio(pipe: Any, certificate: str | None) -> None:
    import grpc
    import grpc.aio

    async def echo(request_iterator: Any, context: Any) -> Any:
        async for request in request_iterator:
            yield request

    async def run() -> None:
        window = 1 << 24
        server = grpc.aio.server(options=[("grpc.http2.lookahead_bytes", window)])
        handler = grpc.stream_stream_rpc_method_handler(echo)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("echo.Echo", {"Bidi": handler}),)
        )
        if certificate is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            pem = Path(certificate).read_bytes()  # noqa: ASYNC240 - before anything is served
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, pem)]))
        await server.start()
        pipe.send(port)
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        await server.stop(0)

    uvloop.run(run())


def _provider(certificate: str | None) -> Callable[[], ssl.SSLContext] | None:
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(certificate)
    return lambda: context


def _fail(error: Exception) -> None:
    raise error


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    serve: Callable[[Any, str | None], None],
    body: bytes,
    at_once: int,
    certificate: str | None,
    seconds: float,
) -> dict[str, float]:
    """CPU microseconds per exchange and exchanges per second of one server."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, certificate))
    process.start()
    client = Client(ours.recv(), body, at_once, certificate is not None)
    assert process.pid is not None
    try:
        for _ in range(20):
            client.batch()
        cpu, began, count = cpu_seconds(process.pid), time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            count += client.batch()
        spent = cpu_seconds(process.pid) - cpu
        return {
            "cpu_us": round(spent / count * 1e6, 1),
            "per_second": round(count / (time.perf_counter() - began)),
        }
    finally:
        client.close()
        ours.send("stop")
        process.join(10)
        process.kill()


def self_signed(folder: str) -> str:
    path = f"{folder}/server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    names = ["-subj", "/CN=localhost", "-keyout", path, "-out", f"{folder}/certificate.pem"]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    with Path(path).open("a") as file:
        file.write(Path(f"{folder}/certificate.pem").read_text())
    return path


def python_build() -> str:
    flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
    marks = [
        mark for mark in ("optimizations", "lto") if f"--enable-{mark}" in flags or mark in flags
    ]
    return f"CPython {sys.version.split()[0]}, {' and '.join(marks) or 'neither PGO nor LTO'}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {"python": python_build()}
    print(report["python"])
    with tempfile.TemporaryDirectory() as folder:
        secret = self_signed(folder)
        for name, body, at_once, certificate in (
            ("small, one at a time", SMALL, 1, None),
            ("small, 16 at once", SMALL, 16, None),
            ("small, 16 at once, TLS", SMALL, 16, secret),
            ("220 KB", bytes(220_000), 4, None),
            ("220 KB, TLS", bytes(220_000), 4, secret),
        ):
            own = measure(serve_own, body, at_once, certificate, options.seconds)
            theirs = measure(serve_grpcio, body, at_once, certificate, options.seconds)
            ratio = round(theirs["cpu_us"] / own["cpu_us"], 1)
            report[name] = {"own": own, "grpc.aio": theirs, "ratio": ratio}
            print(f"{name:23} own {own['cpu_us']:8} us  grpc.aio {theirs['cpu_us']:8} us  {ratio}x")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
