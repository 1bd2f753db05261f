"""Stands in for Envoy without its cost: ext_proc streams written beforehand and replayed.

So the server alone fills a core, and its CPU is that of a picker at its ceiling. Every stream goes
its whole way in two turns, as with Envoy: the request until it is answered, then the response.
"""

import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from backend import WHOLE  # noqa: E402
from bench_wire import _secured  # noqa: E402
from load import Result, small  # noqa: E402
from support.ext_proc import (  # noqa: E402
    modes,
    request_body,
    request_headers,
    response_body,
    response_headers,
)
from support.http2_peer import grpc_head, message  # noqa: E402
from support.wire_fuzz import frame  # noqa: E402

from epp.wire import frames  # noqa: E402
from epp.wire.headers import encoded  # noqa: E402
from epp.wire.session import PROCESS  # noqa: E402

BODY_MODES = {"duplex": "FULL_DUPLEX_STREAMED", "buffered": "BUFFERED"}
REQUEST = {
    ":scheme": "http",
    "user-agent": "bench/1",
    "accept": "*/*",
    "authorization": "Bearer 0123456789abcdef",
    "content-type": "application/json",
    "x-forwarded-proto": "http",
    "x-request-id": "7f3c9c1e-8a51-4d0e-9f0e-0d6f6d3b8a10",
}
RESPONSE = {
    "content-type": "application/json",
    "content-length": str(len(WHOLE)),
    "x-envoy-upstream-service-time": "3",
}
RESET = struct.pack(">I", frames.ErrorCode.INTERNAL_ERROR)
WINDOW = 1 << 28


PIECE = 16_384
"""Bytes of a frame, and of a piece of a streamed body."""


def data(stream: int, *messages: bytes) -> bytes:
    whole = b"".join(map(message, messages))
    pieces = (whole[at : at + PIECE] for at in range(0, len(whole), PIECE))
    return b"".join(frame(frames.DATA, 0, stream, piece) for piece in pieces)


def body_of(make: Callable[[int], bytes], number: int) -> bytes:
    """The body of a request as the load generator writes it."""
    return make(number).partition(b"\r\n\r\n")[2]


class Script:
    """What Envoy writes for one request, by stream id and number of the request.

    `make` makes the requests, as the load generator writes them; the first one's path is that of
    all.
    """

    def __init__(self, request: str, response: str, make: Callable[[int], bytes] = small) -> None:
        self._make = make
        full = response == "full"
        head = grpc_head(PROCESS)
        self._block = encoded([(name.encode(), value.encode()) for name, value in head])
        response_mode = "NONE" if not full else BODY_MODES[request]
        self._duplex = request == "duplex"
        self.replies = 1 if self._duplex else 2
        """To a request, at the least: where the body is buffered its headers are answered apart."""
        body, path = body_of(make, 0), make(0).split(b" ", 2)[1].decode()
        first = request_headers({**REQUEST, "content-length": str(len(body))}, path=path)
        self._headers = modes(first, BODY_MODES[request], response_mode).SerializeToString()
        answered = [response_headers(**RESPONSE).SerializeToString()]
        if full and self._duplex:
            answered.append(response_body(WHOLE).SerializeToString())
            answered.append(response_body(b"", end=True).SerializeToString())
        elif full:
            answered.append(response_body(WHOLE, end=True).SerializeToString())
        self._answered = answered

    def asks(self, stream: int, number: int) -> bytes:
        body = body_of(self._make, number)
        if self._duplex:
            cuts = range(0, len(body), PIECE)
            pieces = [request_body(body[at : at + PIECE]) for at in cuts]
            pieces.append(request_body(b"", end=True))
        else:
            pieces = [request_body(body, end=True)]
        return frame(frames.HEADERS, frames.END_HEADERS, stream, self._block) + data(
            stream, self._headers, *(piece.SerializeToString() for piece in pieces)
        )

    def answers(self, stream: int) -> bytes:
        return data(stream, *self._answered)

    def ends(self, stream: int) -> bytes:
        """As Envoy ends a stream: END_STREAM, then a reset."""
        end = frame(frames.DATA, frames.END_STREAM, stream)
        return end + frame(frames.RST_STREAM, 0, stream, RESET)


class Replay:
    """One connection that keeps `at_once` streams under way in turns."""

    def __init__(self, port: int, script: Script, *, secure: bool, at_once: int = 16) -> None:
        raw = socket.create_connection(("127.0.0.1", port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket: socket.socket | ssl.SSLSocket = _secured(raw) if secure else raw
        self._socket.settimeout(20)
        self._script = script
        self._at_once = at_once
        self._stream = 1
        self._number = 0
        self._rest = b""
        window = frames.settings_frame([(frames.Setting.INITIAL_WINDOW_SIZE, WINDOW)])
        self._socket.sendall(frames.PREFACE + window + frames.window_frame(0, WINDOW))
        self._socket.sendall(frames.SETTINGS_ACK)

    def run(self, seconds: float) -> Result:
        """As many requests as go into so many seconds."""
        began, result = time.perf_counter(), Result()
        while time.perf_counter() - began < seconds:
            self._turn()
            result.done += self._at_once
        result.seconds = time.perf_counter() - began
        return result

    def close(self) -> None:
        self._socket.close()

    def _turn(self) -> None:
        script = self._script
        streams = range(self._stream, self._stream + 2 * self._at_once, 2)
        self._stream += 2 * self._at_once
        asked = b"".join(script.asks(s, self._number + i) for i, s in enumerate(streams))
        self._number += self._at_once
        self._socket.sendall(asked)
        self._until(dict.fromkeys(streams, script.replies))
        self._socket.sendall(b"".join(map(script.answers, streams)))
        self._until(dict.fromkeys(streams, 1))
        self._socket.sendall(b"".join(map(script.ends, streams)))

    def _until(self, missing: dict[int, int]) -> None:
        """Read until every stream has had so many messages; give the window back."""
        read = 0
        while missing:
            received = self._socket.recv(1 << 18)
            if not received:
                raise RuntimeError("the server closed the connection")
            read += len(received)
            self._rest = self._scan(self._rest + received, missing)
        self._socket.sendall(frames.window_frame(0, max(1, read)))

    def _scan(self, seen: bytes, missing: dict[int, int]) -> bytes:
        at = 0
        while len(seen) - at >= 9:
            size = int.from_bytes(seen[at : at + 3], "big")
            end = at + 9 + size
            if end > len(seen):
                break
            kind = seen[at + 3]
            stream = int.from_bytes(seen[at + 5 : at + 9], "big")
            if kind == frames.GOAWAY or (kind == frames.RST_STREAM and stream in missing):
                raise RuntimeError(f"the server gave up: {seen[at:end]!r}")
            if kind == frames.DATA and stream in missing:
                missing[stream] -= messages(seen[at + 9 : end]) if missing[stream] > 1 else 1
                if missing[stream] < 1:
                    del missing[stream]
            at = end
        return seen[at:]


def messages(data: bytes) -> int:
    """How many gRPC messages begin in the data of a frame that begins with one."""
    count = at = 0
    while at < len(data):
        at += 5 + int.from_bytes(data[at + 1 : at + 5], "big")
        count += 1
    return count
