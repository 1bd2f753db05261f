"""Requests with one prompt that come together go to one endpoint, and the groups spread."""

import asyncio
from collections import Counter

import pytest
from support.pools import pool, request, tools

from epp.plugins.producers.burst import BurstPrefixCacheProducer


def producer(**parameters):
    given = {"windowDurationMs": 20, "blockSizeTokens": 16, **parameters}
    params = BurstPrefixCacheProducer.Params.model_validate(given)
    return BurstPrefixCacheProducer(params, tools("burst"))


async def places(of, *prompts, size=4):
    """The row each prompt was given, all having come at once; None where it was given none."""
    asked = [request(prompt, id=f"r{n}") for n, prompt in enumerate(prompts)]
    await asyncio.gather(*[waiting for one in asked if (waiting := of.gather(one))])
    view = pool(size)
    columns = [of.columns(one, view)["prefix_tokens/burst"] for one in asked]
    return [int(c.argmax()) if c.any() else None for c in columns]


def prompt(number, tokens=64):
    return [number] * tokens


async def test_equal_prompts_meet_and_others_go_elsewhere():
    found = await places(producer(), *[prompt(n % 4) for n in range(32)])

    assert found == [n % 4 for n in range(32)]


async def test_the_largest_group_goes_first_to_whoever_has_least():
    found = await places(producer(), *[prompt(n) for n in (1, 1, 1, 1, 2, 2, 3, 3)], size=2)

    assert [set(found[:4]), set(found[4:])] == [{0}, {1}]


async def test_tokens_may_weigh_instead_of_requests():
    prompts = [prompt(1, 640), prompt(2), prompt(2), prompt(3), prompt(3)]
    found = await places(producer(balanceBy="tokens"), *prompts, size=2)

    assert found == [0, 1, 1, 1, 1]


async def test_a_group_too_large_for_one_endpoint_is_cut():
    found = await places(producer(maxPerReplica=2), *[prompt(1)] * 8)

    assert set(Counter(found).values()) == {2}


async def test_a_full_batch_does_not_wait_for_its_window():
    of = producer(windowDurationMs=10_000, maxBatchSize=3)

    async with asyncio.timeout(5):
        assert await places(of, *[prompt(1)] * 3) == [0, 0, 0]


@pytest.mark.parametrize(
    ("tokens", "least"), [(15, 0), (64, 5)], ids=["less-than-a-block", "fewer-than-wanted"]
)
async def test_a_short_prompt_does_not_wait_and_goes_anywhere(tokens, least):
    of = producer(windowDurationMs=10_000, minColocateBlocks=least)

    assert of.gather(request(prompt(1, tokens))) is None
    assert await places(of, prompt(1, tokens)) == [None]


async def test_one_that_leaves_takes_nobody_along():
    of = producer()
    stays, leaves = request(prompt(1)), request(prompt(1), id="r2")
    waiting = asyncio.ensure_future(of.gather(stays))
    gone = asyncio.ensure_future(of.gather(leaves))
    await asyncio.sleep(0)
    gone.cancel()
    await waiting

    assert of.columns(stays, pool(2))["prefix_tokens/burst"].tolist() == [64, 0]


async def test_one_that_waited_too_long_goes_with_what_has_come():
    of = producer(windowDurationMs=10_000)
    asked = request(prompt(1))
    waiting = asyncio.ensure_future(of.gather(asked))
    await asyncio.sleep(0)
    waiting.cancel()

    assert of.columns(asked, pool(2))["prefix_tokens/burst"].tolist() == [64, 0]


async def test_the_next_burst_is_shared_out_anew():
    of = producer()
    await places(of, prompt(1))

    assert await places(of, prompt(2), prompt(1)) == [0, 1]
