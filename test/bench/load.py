"""A client that costs little: HTTP/1.1 over kept connections, requests written beforehand."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MODEL = "bench"
SYSTEM = "You are a helpful assistant. Answer briefly, and say so when you do not know. " * 2


@dataclass
class Result:
    """What a stretch of load came to. Latencies in seconds, from when a request was due."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


class Connection(asyncio.Protocol):
    """One request at a time; `over` is called when its answer is whole."""

    def __init__(self) -> None:
        self._seen = bytearray()
        self._end = -1
        self._over: Callable[[bool], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(False)

    def send(self, request: bytes, over: Callable[[bool], None]) -> None:
        self._over = over
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        seen = self._seen
        seen += data
        if self._end < 0:
            at = seen.find(b"\r\n\r\n")
            if at < 0:
                return
            length = seen.find(b"content-length: ", 0, at)
            self._end = 0
            if length >= 0:
                self._end = at + 4 + int(seen[length + 16 : seen.index(b"\r\n", length)])
        if len(seen) == self._end or (not self._end and seen.endswith(b"0\r\n\r\n")):
            self._finish(seen.startswith(b"HTTP/1.1 200"))

    def _finish(self, good: bool) -> None:
        over, self._over = self._over, None
        self._seen.clear()
        self._end = -1
        if over is not None:
            over(good)


class Client:
    """Connections to one address, opened as they are needed."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._where = host, int(port)
        self._idle: list[Connection] = []
        self._all: list[Connection] = []

    async def open(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, connection = await loop.create_connection(Connection, *self._where)
            self._idle.append(connection)
            self._all.append(connection)

    def close(self) -> None:
        for connection in self._all:
            connection.transport.abort()

    async def paced(self, make: Callable[[int], bytes], rate: float, seconds: float) -> Result:
        """Requests at random times, `rate` a second on average, whatever becomes of them."""
        loop = asyncio.get_running_loop()
        chance = random.Random(7)
        result, open_ones, all_over = Result(), 0, asyncio.Event()
        began = time.perf_counter()
        due = began
        number = 0
        while due < began + seconds:
            now = time.perf_counter()
            if due > now:
                await asyncio.sleep(due - now)
            if not self._idle:
                await self.open(1)
            connection = self._idle.pop()
            open_ones += 1

            def over(good: bool, at: float = due, connection: Connection = connection) -> None:
                nonlocal open_ones
                result.latencies.append(time.perf_counter() - at)
                result.done += good
                result.failed += not good
                self._idle.append(connection)
                open_ones -= 1
                if not open_ones:
                    all_over.set()

            connection.send(make(number), over)
            number += 1
            due += chance.expovariate(rate)
        all_over.clear()
        if open_ones:
            async with asyncio.timeout(30):
                await all_over.wait()
        result.seconds = loop.time() and time.perf_counter() - began
        return result

    async def flat_out(self, make: Callable[[int], bytes], at_once: int, seconds: float) -> Result:
        """`at_once` requests always under way."""
        await self.open(max(0, at_once - len(self._idle)))
        result, left, number = Result(), at_once, 0
        all_over = asyncio.Event()
        began = time.perf_counter()

        def go(connection: Connection) -> None:
            nonlocal left, number
            at = time.perf_counter()
            if at - began >= seconds:
                left -= 1
                self._idle.append(connection)
                if not left:
                    all_over.set()
                return
            number += 1

            def over(good: bool) -> None:
                result.latencies.append(time.perf_counter() - at)
                result.done += good
                result.failed += not good
                go(connection)

            connection.send(make(number), over)

        for connection in [self._idle.pop() for _ in range(at_once)]:
            go(connection)
        async with asyncio.timeout(seconds + 60):
            await all_over.wait()
        result.seconds = time.perf_counter() - began
        return result


def post(body: bytes, headers: str = "", path: str = "/v1/chat/completions") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\nuser-agent: bench/1\r\n"
        "accept: */*\r\nauthorization: Bearer 0123456789abcdef\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


def small(number: int) -> bytes:
    """A chat of 450 bytes, no two alike, all with the same beginning."""
    body = (
        f'{{"model":"{MODEL}","messages":[{{"role":"system","content":"{SYSTEM}"}},'
        f'{{"role":"user","content":"Question {number:08d}: what is the capital of France, and how'
        ' many people live there?"}],"max_tokens":64,"temperature":0.7}'
    )
    return post(body.encode())


def streamed(chunks: int, gap_ms: int) -> Callable[[int], bytes]:
    """The same as a stream of so many events."""

    def make(number: int) -> bytes:
        whole = small(number)
        body = whole[whole.index(b"\r\n\r\n") + 4 :][:-1] + b',"stream":true}'
        return post(body, f"x-bench-chunks: {chunks}\r\nx-bench-gap-ms: {gap_ms}\r\n")

    return make


def large(size: int = 220_000, *, kinds: int = 40) -> Callable[[int], bytes]:
    """Prompts of `size` bytes without a common beginning, `kinds` of them in turn."""
    chance = random.Random(11)
    texts = [chance.randbytes(size // 2).hex() for _ in range(kinds)]
    bodies = [
        post(f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"{t}"}}]}}'.encode())
        for t in texts
    ]
    return lambda number: bodies[number % kinds]
