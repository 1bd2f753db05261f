"""Clients of many kinds at a steady rate, and what became of each request.

The mix and the moments are drawn from a seed. A request is *calm* when nothing it depends on was
away while it was under way; of those each must end as its kind is meant to.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
from support import h2_client
from support.soak_backend import MODEL

CHAT = "/v1/chat/completions"
PATIENCE_SECONDS = 60.0
AT_ONCE_MOST = 2_000
SHOWN_MOST = 50
PROMPTS = 2_000
LARGE_PROMPTS = 40
LARGE_CHARACTERS = 200_000

MIX = {
    "chat": 590,
    "stream": 120,
    "long stream": 2,
    "large prompt": 40,
    "get": 80,
    "chunked upload": 40,
    "upload with trailers": 20,
    "server error": 20,
    "unreadable": 20,
    "leaves before the answer": 34,
    "leaves in mid-stream": 34,
}
"""Kinds of requests, in a thousand."""

MEANT = dict.fromkeys(MIX, "200") | {
    "server error": "500",
    "unreadable": "400",
    "leaves before the answer": "left",
    "leaves in mid-stream": "left",
}


class Disturbances:
    """When something that requests depend on was away."""

    def __init__(self) -> None:
        self._windows: deque[list[float]] = deque(maxlen=50)
        self.seconds = 0.0

    def begin(self) -> None:
        self._windows.append([time.monotonic(), float("inf")])

    def end(self) -> None:
        window = self._windows[-1]
        window[1] = time.monotonic()
        self.seconds += window[1] - window[0]

    def touch(self, began: float, ended: float) -> bool:
        return any(began <= end and ended >= begin for begin, end in self._windows)


@dataclass
class Tally:
    """How requests ended."""

    sent: int = 0
    calm: Counter[tuple[str, str]] = field(default_factory=Counter)
    disturbed: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[dict[str, object]] = field(default_factory=list)
    """The first calm requests that did not end as they were meant to."""
    skipped: int = 0
    """Not sent, so many being under way already."""

    @property
    def failed(self) -> int:
        """Calm requests that did not end as they were meant to."""
        return sum(count for (kind, end), count in self.calm.items() if end != MEANT[kind])

    def note(self, kind: str, end: str, at: float, *, disturbed: bool) -> None:
        (self.disturbed if disturbed else self.calm)[kind, end] += 1
        if not disturbed and end != MEANT[kind] and len(self.failures) < SHOWN_MOST:
            self.failures.append({"at": round(at, 2), "kind": kind, "ended": end})

    def table(self) -> list[dict[str, object]]:
        """A row for each kind and end."""
        return [
            {"kind": kind, "ended": end, "calm": self.calm[kind, end], "disturbed": other}
            for kind, end in sorted({*self.calm, *self.disturbed})
            for other in [self.disturbed[kind, end]]
        ]


class Traffic:
    """Sends until it is told to stop."""

    def __init__(
        self, address: str, rate: float, disturbances: Disturbances, *, seed: int = 7
    ) -> None:
        self.tally = Tally()
        self.seconds = 0.0
        """How long it has sent."""
        self.late = 0.0
        """The latest a request was sent: a machine that starves its client starves its picker."""
        self._rate = rate
        self._disturbances = disturbances
        self._chance = random.Random(seed)
        self._prompts = Prompts(seed)
        self._address = address
        self._under_way: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Requests at random times, `rate` a second on average; returns when the last has ended."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        base = f"http://{self._address}"
        kinds, weights = list(MIX), list(MIX.values())
        async with aiohttp.ClientSession(base, timeout=timeout, connector=connector) as http:
            self._client = Client(http, self._address, self._prompts)
            self.began = due = time.monotonic()
            while not self._stop.is_set():
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                self.late = max(self.late, time.monotonic() - due)
                self._start(self._chance.choices(kinds, weights)[0])
                due += self._chance.expovariate(self._rate)
            self.seconds = time.monotonic() - self.began
            await asyncio.gather(*self._under_way)

    def _start(self, kind: str) -> None:
        if len(self._under_way) >= AT_ONCE_MOST:
            self.tally.skipped += 1
            return
        task = asyncio.create_task(self._one(kind, self.tally.sent))
        self.tally.sent += 1
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _one(self, kind: str, number: int) -> None:
        began = time.monotonic()
        try:
            end = await self._client.ways[kind](number)
        except TimeoutError:
            end = "no answer in time"
        except (aiohttp.ClientError, ConnectionError) as error:
            end = f"cut: {type(error).__name__}"
        touched = self._disturbances.touch(began, time.monotonic())
        self.tally.note(kind, end, began - self.began, disturbed=touched)


class Prompts:
    """Bodies drawn from a seed; few enough that caches fill and then turn over."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        words = [chance.randbytes(3).hex() for _ in range(500)]
        self._small = [" ".join(chance.choices(words, k=60)) for _ in range(PROMPTS)]
        self._large = [chance.randbytes(LARGE_CHARACTERS // 2).hex() for _ in range(LARGE_PROMPTS)]

    def small(self, number: int, **fields: object) -> bytes:
        return chat(self._small[number * 7919 % PROMPTS], **fields)

    def large(self, number: int) -> bytes:
        return chat(self._large[number * 7919 % LARGE_PROMPTS])


def chat(content: str, **fields: object) -> bytes:
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": MODEL, "messages": messages, "max_tokens": 8, **fields}).encode()


class Client:
    """A way of asking for each kind; each returns how it ended."""

    def __init__(self, http: aiohttp.ClientSession, address: str, prompts: Prompts) -> None:
        self._http = http
        host, _, port = address.rpartition(":")
        self._where = host, int(port)
        self._prompts = prompts
        self.ways: dict[str, Callable[[int], Awaitable[str]]] = {
            "chat": lambda n: self._whole(prompts.small(n)),
            "stream": lambda n: self._stream(n, events=20, gap_ms=20),
            "long stream": lambda n: self._stream(n, events=100, gap_ms=100),
            "large prompt": lambda n: self._whole(prompts.large(n)),
            "get": lambda n: self._get(),
            "chunked upload": lambda n: self._whole(pieces(prompts.small(n))),
            "upload with trailers": self._trailers,
            "server error": lambda n: self._whole(prompts.small(n), status=500),
            "unreadable": lambda n: self._whole(prompts.small(n)[:-20]),
            "leaves before the answer": self._leave_early,
            "leaves in mid-stream": self._leave_late,
        }

    async def _whole(self, body: object, **asked: int) -> str:
        async with self._http.post(CHAT, data=body, headers=headers(**asked)) as answer:
            said = await answer.read()
            if answer.status == 200 and not said.endswith(b"}"):
                return "200 cut short"
            return end_of(answer)

    async def _get(self) -> str:
        async with self._http.get("/v1/models") as answer:
            await answer.read()
            return end_of(answer)

    async def _stream(self, number: int, *, events: int, gap_ms: int) -> str:
        body = self._prompts.small(number, stream=True)
        told = headers(events=events, gap_ms=gap_ms)
        async with self._http.post(CHAT, data=body, headers=told) as answer:
            said = await answer.read()
            if answer.status == 200 and said.count(b"data: ") != events + 2:
                return f"200 with {said.count(b'data: ')} events of {events + 2}"
            return end_of(answer)

    async def _trailers(self, number: int) -> str:
        body = self._prompts.small(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            status, _ = await h2_client.post(*self._where, CHAT, body, trailers=True)
        return str(status)

    async def _leave_early(self, number: int) -> str:
        try:
            async with asyncio.timeout(0.001 * (number % 60)):
                return await self._whole(self._prompts.small(number), delay_ms=2_000)
        except TimeoutError:
            return "left"

    async def _leave_late(self, number: int) -> str:
        body = self._prompts.small(number, stream=True)
        told = headers(events=50, gap_ms=20)
        async with self._http.post(CHAT, data=body, headers=told) as answer:
            if answer.status != 200:
                return end_of(answer)
            await answer.content.readany()
            await asyncio.sleep(0.005 * (number % 60))
            answer.close()
            return "left"


def headers(**asked: int) -> dict[str, str]:
    """What the model server is asked to do, and what a JSON body needs."""
    told = {f"x-soak-{name.replace('_', '-')}": str(value) for name, value in asked.items()}
    return {"content-type": "application/json", **told}


def end_of(answer: aiohttp.ClientResponse) -> str:
    reason = answer.headers.get("x-llm-d-request-dropped-reason", "")
    return f"{answer.status} {reason}".strip()


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """A body of unknown length, in three pieces."""
    third = len(body) // 3
    for piece in (body[:third], body[third : 2 * third], body[2 * third :]):
        yield piece
