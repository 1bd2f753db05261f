"""Streams through the gateway, counted token by token."""

import asyncio
import json

import aiohttp
from support.gateway import CHAT, House, chat_body


async def one_stream(house: House, tokens: int) -> int:
    """Events with content that arrived before the end or the cut."""
    body = chat_body("stream", stream=True, max_tokens=tokens, ignore_eos=True)
    seen = b""
    try:
        async with house.client.post(house.envoy.url + CHAT, json=body) as response:
            async for piece in response.content.iter_any():
                seen += piece
    except aiohttp.ClientError:
        pass
    return count_tokens(seen)


def count_tokens(stream: bytes) -> int:
    whole = [line[6:] for line in stream.split(b"\n\n") if line.startswith(b"data: {")]
    events = [json.loads(line) for line in whole if line.endswith(b"}")]
    return sum(bool(e["choices"] and e["choices"][0]["delta"].get("content")) for e in events)


async def until_all_stream(house: House, count: int) -> None:
    end = asyncio.get_running_loop().time() + 45
    while sum([(await sim.state())["running"] for sim in house.sims]) < count:
        assert asyncio.get_running_loop().time() < end, "streams did not all start"
        await asyncio.sleep(0.05)
