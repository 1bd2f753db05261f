"""Sends a workload through the gateway, open loop, and notes what each request met."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from epp.cli.demo.workload import Shot


@dataclass(slots=True, frozen=True)
class Seen:
    """What a client saw: seconds to the first byte of the answer's body, and who answered why."""

    shot: Shot
    status: int
    ttft: float
    pod: str
    reason: str
    prompt_tokens: int
    cached_tokens: int


async def send_all(url: str, shots: Sequence[Shot], on_seen: Callable[[Seen], None]) -> list[Seen]:
    """Send every shot at its time, whatever the earlier ones are doing; returns when all ended."""
    began = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as session:

        async def fire(shot: Shot) -> Seen:
            await asyncio.sleep(max(0.0, began + shot.at - time.monotonic()))
            seen = await send(session, shot)
            on_seen(seen)
            return seen

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fire(shot)) for shot in shots]
    return [task.result() for task in tasks]


async def send(session: aiohttp.ClientSession, shot: Shot) -> Seen:
    """Send one shot; a connection error is status 0."""
    began = time.monotonic()
    method = "GET" if shot.body is None else "POST"
    try:
        async with session.request(method, shot.path, json=shot.body) as response:
            first = await response.content.readany()
            ttft = time.monotonic() - began
            body = first + await response.read()
            headers = response.headers
            prompt, cached = _usage(body)
            return Seen(
                shot,
                response.status,
                ttft,
                headers.get("x-inference-pod", ""),
                headers.get("x-epp-reason", ""),
                prompt,
                cached,
            )
    except (aiohttp.ClientError, TimeoutError):
        return Seen(shot, 0, time.monotonic() - began, "", "", 0, 0)


def _usage(body: bytes) -> tuple[int, int]:
    """Prompt and cached tokens of the last `usage` in a JSON body or an event stream."""
    for line in reversed(body.replace(b"data: ", b"\n").splitlines()):
        if b'"usage"' not in line:
            continue
        try:
            usage = json.loads(line).get("usage") or {}
        except ValueError:
            continue
        details = usage.get("prompt_tokens_details") or {}
        prompt = usage.get("prompt_tokens") or usage.get("input_tokens") or 0
        cached = details.get("cached_tokens") or usage.get("cache_read_input_tokens") or 0
        return int(prompt), int(cached)
    return 0, 0
