"""What happens when a part dies, fails, or comes back, through real Envoy."""

import asyncio

import aiohttp
import pytest
from support.gateway import CHAT, Variant, chat_body, standing
from support.streams import one_stream, until_all_stream

pytestmark = pytest.mark.envoy

SHIPPED = Variant("buffered", "watch")
PROTOCOL = Variant("duplex", "full")
PATIENCE = 60.0


async def test_a_killed_endpoint_costs_no_later_request():
    async with standing(SHIPPED) as house:
        await house.sims[0].kill()
        answers = [await house.chat(f"after the kill {i}") for i in range(20)]

        assert [answer.status for answer in answers] == [200] * 20
        assert {answer.pod for answer in answers} == {sim.name for sim in house.sims[1:]}
        await house.comes_to_rest()


async def test_without_retries_a_killed_endpoint_costs_the_first_requests_alone():
    """Envoy cannot retry a duplex request; the first that fails makes the picker look again, and
    once it has seen that nobody is there no further one fails."""
    async with standing(PROTOCOL) as house:
        await house.sims[0].kill()
        statuses = []

        async def one_has_failed():
            statuses.append((await house.chat(f"after the kill {len(statuses)}")).status)
            return statuses[-1] != 200 or not await is_trusted(house, house.sims[0])

        await until(one_has_failed)
        await until(lambda: is_not_trusted(house, house.sims[0]))
        after = [(await house.chat(f"when it is known {i}")).status for i in range(20)]

        assert set(statuses) <= {200, 503}
        assert after == [200] * 20
        await house.comes_to_rest()


@pytest.mark.parametrize("variant", [SHIPPED, PROTOCOL], ids=str)
async def test_an_endpoint_that_fails_is_ejected_and_let_back(variant):
    async with standing(variant) as house:
        await house.sims[0].faults(error_rate=1.0, error_status=500)
        after = await answers_while_ejected(house, house.sims[0], 10)
        await house.sims[0].faults(clear=True)
        await picks(house, house.sims[0].name)

        assert after == [200] * 10
        await house.comes_to_rest()


@pytest.mark.parametrize("variant", [SHIPPED, PROTOCOL], ids=str)
async def test_an_endpoint_killed_in_mid_stream_frees_its_load(variant):
    async with standing(variant) as house:
        with pytest.raises(aiohttp.ClientError):
            await stream_from_one_that_dies(house)

        await house.comes_to_rest()


async def test_a_restarted_picker_loses_no_request():
    async with standing(SHIPPED) as house:
        statuses = []

        async def keep_asking():
            while True:
                statuses.append((await house.chat("around a restart")).status)

        asking = asyncio.create_task(keep_asking())
        await grows(statuses, 10)
        assert await house.picker.terminate() == 0
        await grows(statuses, 5)
        await house.picker.start()
        await grows(statuses, 10)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        assert set(statuses) == {200}
        await house.comes_to_rest()


@pytest.mark.parametrize("variant", [SHIPPED, Variant("duplex", "watch"), PROTOCOL], ids=str)
async def test_a_picker_that_drains_cuts_no_answer(variant):
    token = ("--time-scale=1", "--inter-token-latency=60ms", "--max-num-seqs=64")
    variant = variant.but(picker_flags=("--drain-timeout=1s",), sim_flags=token)
    async with standing(variant) as house:
        streams = [asyncio.create_task(one_stream(house, 100)) for _ in range(10)]
        await until_all_stream(house, 10)
        assert await house.picker.terminate() == 0
        events = await asyncio.gather(*streams)

        assert events == [100] * 10


async def stream_from_one_that_dies(house):
    body = chat_body("die", stream=True, max_tokens=50_000, ignore_eos=True)
    async with house.client.post(house.envoy.url + CHAT, json=body) as response:
        await response.content.readany()
        await house.sim_of(response.headers["x-inference-pod"]).kill()
        await response.read()


async def until(met):
    """Look, or try, again and again until it is so."""
    async with asyncio.timeout(PATIENCE):
        while not await met():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def row_of(house, sim):
    rows = (await house.debug("endpoints"))["endpoints"]
    return next(row for row in rows if row["address"] == sim.address)


async def is_trusted(house, sim):
    """Whether the picker takes the endpoint for one that is there."""
    row = await row_of(house, sim)
    return row["fresh"] and not row["ejected"]


async def is_not_trusted(house, sim):
    return not await is_trusted(house, sim)


async def answers_while_ejected(house, sim, count):
    """Statuses of requests while one endpoint was ejected, from their beginning to their end.

    It is asked until there are so many: an ejection ends by time, and a request of a slow machine
    may outlast it.
    """
    statuses = []

    async def enough():
        before = await ejected_endpoints(house)
        status = (await house.chat(f"{len(statuses)} against a failing endpoint")).status
        after = await ejected_endpoints(house)
        assert {*before, *after} <= {sim.address}
        if before and after:
            statuses.append(status)
        return len(statuses) == count

    await until(enough)
    return statuses


async def ejected_endpoints(house):
    rows = (await house.debug("endpoints"))["endpoints"]
    return [row["address"] for row in rows if row["ejected"]]


async def grows(listed, more):
    """Wait until so many more have been added."""
    wanted = len(listed) + more

    async def has_grown():
        return len(listed) >= wanted

    await until(has_grown)


async def picks(house, pod):
    """Send requests until one is answered by `pod`."""

    async def is_picked():
        return (await house.chat(f"who {asyncio.get_running_loop().time()}")).pod == pod

    await until(is_picked)
