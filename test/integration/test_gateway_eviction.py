"""Sheddable requests taken back for work of higher priority, through real Envoy."""

import asyncio
import json
from collections import Counter

import pytest
from support.gateway import CHAT, chat_body
from support.inline_picker import inline_picker

from epp.admission.eviction import YOUNG
from epp.domain.response import Ending

pytestmark = pytest.mark.envoy

SLOW = ("--time-scale=1", "--inter-token-latency=100ms", "--time-to-first-token=50ms")
LONG = {"max_tokens": 150, "ignore_eos": True}
"""15 s of answer: nothing ends by itself within a test."""
MODES = [("buffered", "watch"), ("duplex", "full"), ("buffered", "forget"), ("duplex", "watch")]


async def placed(house, count):
    async with asyncio.timeout(10):
        while house.control.machine or house.store.totals().inflight_requests < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def ended(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(("asked", "answered"), MODES, ids=["-".join(mode) for mode in MODES])
async def test_who_has_no_answer_yet_is_taken_back(asked, answered):
    async with inline_picker(
        asked, answered, replicas=1, sim_flags=SLOW, enableEviction=True
    ) as house:
        low = [asyncio.create_task(house.chat("low", priority=-1, **LONG)) for _ in range(2)]
        await placed(house, 2)
        async with asyncio.timeout(YOUNG):
            high = await house.chat("high", priority=5, max_tokens=2)
        done, _ = await asyncio.wait(low, timeout=1.0)
        victim = next(iter(done)).result()
        state = await house.sims[0].until(running=1)
        await ended(low)

        assert high.status == 200
        assert len(done) == 1
        assert victim.status == 429
        assert victim.headers["x-llm-d-request-dropped-reason"] == "evicted"
        assert int(victim.headers["retry-after"]) >= 1
        assert json.loads(victim.body)["error"]["code"] == "evicted"
        assert Counter(house.told.endings)[Ending.EVICTED] == 1
        assert [tally.value for tally in house.metrics.evictions.cells.values()] == [1]
        assert state


async def test_an_answer_that_has_begun_is_never_cut():
    async with inline_picker(replicas=1, sim_flags=SLOW, enableEviction=True) as house:
        streams = [asyncio.create_task(events(house)) for _ in range(2)]
        await placed(house, 2)
        await asyncio.sleep(0.3)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await house.chat("high", priority=5, max_tokens=2)

        assert all(not stream.done() for stream in streams)
        assert not house.metrics.evictions.cells
        await ended(streams)


async def events(house):
    body = chat_body("low", stream=True, **LONG)
    named = {"x-gateway-inference-objective": "-1"}
    async with house.client.post(house.url + CHAT, json=body, headers=named) as response:
        return [line async for line in response.content]


async def test_unless_configured_nobody_is_taken_back():
    async with inline_picker(replicas=1, sim_flags=SLOW) as house:
        low = [asyncio.create_task(house.chat("low", priority=-1, **LONG)) for _ in range(2)]
        await placed(house, 2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await house.chat("high", priority=5, max_tokens=2)

        assert all(not task.done() for task in low)
        await ended(low)
