"""A model server that costs little and does as it is told, as a process of its own.

    python test/support/soak_backend.py PORT

Port 0 takes a free one; one line of JSON tells it. A request says by headers what shall become of
it: `x-soak-status`, `x-soak-delay-ms`, and, for a stream, `x-soak-events` that are `x-soak-gap-ms`
apart. `GET /metrics` is the page of an engine that runs what is open here now.
"""

import asyncio
import contextlib
import json
import re
import sys

import uvloop

MODEL = "soak"
BLOCKS, BLOCK_TOKENS = 8_192, 16
"""A small cache, so that what the picker remembers of it is soon as large as it ever gets."""
USAGE = {"prompt_tokens": 100, "completion_tokens": 4, "total_tokens": 104}
ASKED = re.compile(rb"(?i)\r\nx-soak-(status|delay-ms|events|gap-ms): (\d+)")
LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: chunked")
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
PAGE = """\
vllm:num_requests_running{{engine="0",model_name="{model}"}} {running}
vllm:num_requests_waiting{{engine="0",model_name="{model}"}} 0
vllm:kv_cache_usage_perc{{engine="0",model_name="{model}"}} {usage}
vllm:cache_config_info{{engine="0",block_size="{size}",num_gpu_blocks="{blocks}"}} 1
"""


def whole(status: int, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chat() -> bytes:
    message = {"role": "assistant", "content": "four words of text"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    told = {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL}
    return json.dumps({**told, "choices": [choice], "usage": USAGE}).encode()


def event(**fields: object) -> bytes:
    told = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: " + json.dumps({**told, **fields}).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


WHOLE = whole(200, chat())
FAILED = json.dumps({"error": {"message": "as asked", "type": "InternalServerError"}}).encode()
MODELS = whole(200, json.dumps({"object": "list", "data": [{"id": MODEL}]}).encode())
WORD = chunk(event(choices=[{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]))
LAST = chunk(event(choices=[], usage=USAGE) + b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Engine:
    """What the metrics page tells."""

    def __init__(self) -> None:
        self.running = 0

    def page(self) -> bytes:
        text = PAGE.format(
            model=MODEL,
            running=self.running,
            usage=min(self.running / 100, 1.0),
            size=BLOCK_TOKENS,
            blocks=BLOCKS,
        )
        return whole(200, text.encode(), "text/plain")


class ModelServer(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._head = b""
        self._seen = b""
        self._missing: int | None = None
        """Bytes of the body still to come; None where it is chunked."""
        self._runs = False
        self._later: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._later is not None:
            self._later.cancel()
        self._over()

    def data_received(self, data: bytes) -> None:
        if self._head:
            self._body(data)
            return
        self._seen += data
        head, found, rest = self._seen.partition(b"\r\n\r\n")
        if not found:
            return
        self._head, self._seen = head + b"\r\n", b""
        length = LENGTH.search(head)
        self._missing = None if CHUNKED.search(head) else int(length[1]) if length else 0
        self._body(rest)

    def _body(self, data: bytes) -> None:
        if self._missing is None:
            self._seen = (self._seen + data)[-5:]
            if self._seen == b"0\r\n\r\n":
                self._answer()
            return
        self._missing -= len(data)
        if self._missing == 0:
            self._answer()

    def _answer(self) -> None:
        head, self._head, self._seen = self._head, b"", b""
        if head.startswith(b"GET"):
            page = self._engine.page() if head.startswith(b"GET /metrics ") else MODELS
            self._transport.write(page)
            return
        asked = {name.decode(): int(value) for name, value in ASKED.findall(head)}
        self._runs = True
        self._engine.running += 1
        self._after(asked.get("delay-ms", 0), self._begin, asked)

    def _after(self, delay_ms: int, step, *arguments) -> None:
        if not delay_ms:
            step(*arguments)
            return
        loop = asyncio.get_running_loop()
        self._later = loop.call_later(delay_ms / 1000, step, *arguments)

    def _begin(self, asked: dict[str, int]) -> None:
        if events := asked.get("events", 0):
            self._transport.write(STREAM_HEAD)
            self._stream(events, asked.get("gap-ms", 1))
            return
        status = asked.get("status", 200)
        self._transport.write(WHOLE if status == 200 else whole(status, FAILED))
        self._over()

    def _stream(self, left: int, gap_ms: int) -> None:
        if not left:
            self._transport.write(LAST)
            self._over()
            return
        self._transport.write(WORD)
        self._after(gap_ms, self._stream, left - 1, gap_ms)

    def _over(self) -> None:
        self._engine.running -= self._runs
        self._runs = False


async def serve(port: int) -> None:
    engine = Engine()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ModelServer(engine), "127.0.0.1", port, backlog=1024)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1])))
