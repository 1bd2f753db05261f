"""One simulator serves two hundred streams, and one core is more than it needs for that."""

from __future__ import annotations

import asyncio
import os
from math import inf
from pathlib import Path

import aiohttp
from support.sims import simulators

from vllm_sim.engine import Engine, EngineConfig, Request

STREAMS = 200
TOKENS = 200
WORDS = "word " * 200


def used(pid):
    """Seconds of a core that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def stream(session, url, number):
    """Events of one stream that carry a token, and the prompt's tokens."""
    ask = {"model": "m", "prompt": f"{number} {WORDS}", "max_tokens": TOKENS, "ignore_eos": True}
    options = {"stream": True, "stream_options": {"include_usage": True}}
    async with session.post(f"{url}/v1/completions", json={**ask, **options}) as answer:
        events = (await answer.text()).split("\n\n")
    *tokens, usage, done, _ = events
    assert done == "data: [DONE]"
    assert '"completion_tokens":200' in usage.replace(" ", "")
    return len(tokens)


def seconds_on_the_gpu(prompt_tokens):
    """What the engine model alone says that these requests take."""
    engine = Engine(EngineConfig.named("h100-llama-8b"))
    for number in range(STREAMS):
        engine.add(Request(str(number), prompt_tokens, TOKENS), 0.0)
    return max(seq.finished_at for seq in engine.advance(inf))


async def test_two_hundred_streams_take_less_of_a_core_than_the_time_they_simulate():
    """The wall is not looked at: a busy machine gives the process less of it, not more CPU."""
    async with simulators(1, "--model=m") as (sim,):
        before = used(sim.pid)
        everything = aiohttp.TCPConnector(limit=STREAMS)
        async with aiohttp.ClientSession(connector=everything) as session:
            counts = await asyncio.gather(
                *(stream(session, sim.url, number) for number in range(STREAMS))
            )
        cpu, state = used(sim.pid) - before, await sim.state()
        assert counts == [TOKENS] * STREAMS
        assert (state["generation_tokens"], state["requests"]["aborted"]) == (STREAMS * TOKENS, 0)
        simulated = seconds_on_the_gpu(state["prompt_tokens"] // STREAMS)
        assert cpu < simulated
