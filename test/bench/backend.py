"""The cheapest model servers there are: many ports in one process, constant answers.

For figures in which the engine does not matter. `POST` answers a chat completion at once, or, asked
by `x-bench-chunks` and `x-bench-gap-ms`, a stream of so many events so far apart, or, asked to
render a chat, its tokens; `GET` answers the metrics page of an engine with so many requests.
"""

import asyncio
import json
import multiprocessing
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import uvloop  # noqa: E402
from bench_scrape import vllm_page  # noqa: E402
from engines import tokens_of  # noqa: E402

USAGE = {"prompt_tokens": 100, "completion_tokens": 4, "total_tokens": 104}
WHOLE = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "bench",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "four words of text"},
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }
).encode()
EVENT = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"bench","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)
LAST = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"bench","choices":[],"usage":' + json.dumps(USAGE).encode() + b"}\n\ndata: [DONE]\n\n"
)
CHUNKS = re.compile(rb"(?i)\r\nx-bench-chunks: (\d+)")
GAP = re.compile(rb"(?i)\r\nx-bench-gap-ms: (\d+)")
LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
RENDER = b"/render HTTP/1.1\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def whole(body: bytes, kind: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def rendered(body: bytes) -> bytes:
    """The tokens of a chat, as an engine tells them."""
    text = "".join(message["content"] for message in json.loads(body)["messages"])
    return json.dumps({"token_ids": tokens_of(text.encode())}).encode()


class ModelServer(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, page: bytes) -> None:
        self._page = page
        self._seen = b""
        self._head = b""
        self._body = bytearray()
        self._missing = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._head:
            self._more(data)
            return
        self._seen += data
        at = self._seen.find(b"\r\n\r\n")
        if at < 0:
            return
        self._head, rest, self._seen = self._seen[: at + 2], self._seen[at + 4 :], b""
        length = LENGTH.search(self._head)
        self._missing = int(length[1]) if length else -1
        if b"chunked" not in self._head and not length:
            self._missing = 0
        self._more(rest)

    def _more(self, data: bytes) -> None:
        if self._missing < 0:
            self._seen = self._seen[-5:] + data[-5:]
            if self._seen.endswith(b"0\r\n\r\n"):
                self._answer()
            return
        self._missing -= len(data)
        if RENDER in self._head:
            self._body += data
        if self._missing == 0:
            self._answer()

    def _answer(self) -> None:
        head, self._head, self._seen = self._head, b"", b""
        if head.startswith(b"GET"):
            self._transport.write(self._page)
        elif RENDER in head:
            self._transport.write(whole(rendered(self._body), "application/json"))
            self._body.clear()
        elif chunks := CHUNKS.search(head):
            gap = GAP.search(head)
            self._transport.write(STREAM_HEAD)
            self._stream(int(chunks[1]), (int(gap[1]) if gap else 0) / 1000)
        else:
            self._transport.write(ANSWER)

    def _stream(self, left: int, gap: float) -> None:
        if self._transport.is_closing():
            return
        if not left:
            self._transport.write(chunk(LAST) + b"0\r\n\r\n")
            return
        self._transport.write(chunk(EVENT))
        asyncio.get_running_loop().call_later(gap, self._stream, left - 1, gap)


ANSWER = whole(WHOLE, "application/json")


def far_side(pipe: Connection, count: int, running: int) -> None:
    uvloop.run(_serve(pipe, count, whole(vllm_page(running, 60_000), "text/plain")))


async def _serve(pipe: Connection, count: int, page: bytes) -> None:
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: ModelServer(page), "127.0.0.1", 0) for _ in range(count)
    ]
    pipe.send([server.sockets[0].getsockname()[1] for server in servers])
    done = asyncio.Event()
    loop.add_reader(pipe.fileno(), done.set)
    await done.wait()


@contextmanager
def model_servers(count: int, running: int = 1) -> Iterator[list[int]]:
    """Ports of so many servers, each with `running` requests on its metrics page."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=far_side, args=(theirs, count, running), daemon=True)
    child.start()
    try:
        yield ours.recv()
    finally:
        ours.send("end")
        child.join(5)
        child.kill()
