"""What happens when a part dies, fails, or comes back, through real Envoy."""

import asyncio

import aiohttp
import pytest
from support.gateway import CHAT, Variant, chat_body, standing
from support.streams import one_stream, until_all_stream

pytestmark = pytest.mark.envoy

SHIPPED = Variant("buffered", "watch")
PROTOCOL = Variant("duplex", "full")


async def test_a_killed_endpoint_costs_no_later_request():
    async with standing(SHIPPED) as house:
        await house.sims[0].kill()
        answers = [await house.chat(f"after the kill {i}") for i in range(20)]

        assert [answer.status for answer in answers] == [200] * 20
        assert {answer.pod for answer in answers} == {sim.name for sim in house.sims[1:]}
        await house.comes_to_rest()


async def test_without_retries_a_killed_endpoint_costs_the_first_requests_alone():
    """Envoy cannot retry a duplex request; the first that fails makes the picker look again, and
    what it sees may come after the next request or two."""
    async with standing(PROTOCOL) as house:
        await house.sims[0].kill()
        statuses = [(await house.chat(f"after the kill {i}")).status for i in range(20)]

        assert set(statuses[:3]) <= {200, 503}
        assert statuses[3:] == [200] * 17
        await house.comes_to_rest()


@pytest.mark.parametrize("variant", [SHIPPED, PROTOCOL], ids=str)
async def test_an_endpoint_that_fails_is_ejected_and_let_back(variant):
    async with standing(variant) as house:
        await house.sims[0].faults(error_rate=1.0, error_status=500)
        for i in range(60):
            await house.chat(f"{i} against a failing endpoint")
        ejected = await ejected_endpoints(house)
        after = [(await house.chat(f"{i} after ejection")).status for i in range(10)]
        await house.sims[0].faults(clear=True)
        await picks(house, house.sims[0].name, seconds=15)

        assert ejected == [house.sims[0].address]
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
        await asyncio.sleep(0.3)
        assert await house.picker.terminate() == 0
        await house.picker.start()
        await asyncio.sleep(1.0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        assert len(statuses) > 10
        assert set(statuses) == {200}
        await house.comes_to_rest()


@pytest.mark.parametrize("variant", [SHIPPED, Variant("duplex", "watch"), PROTOCOL], ids=str)
async def test_a_picker_that_drains_cuts_no_answer(variant):
    token = ("--time-scale=1", "--inter-token-latency=30ms", "--max-num-seqs=64")
    variant = variant.but(picker_flags=("--drain-timeout=1s",), sim_flags=token)
    async with standing(variant) as house:
        streams = [asyncio.create_task(one_stream(house, 100)) for _ in range(10)]
        await until_all_stream(house, 10)
        assert await house.picker.terminate() == 0
        events = await asyncio.gather(*streams)

        assert events == [100] * 10


async def stream_from_one_that_dies(house):
    body = chat_body("die", stream=True, max_tokens=5000, ignore_eos=True)
    async with house.client.post(house.envoy.url + CHAT, json=body) as response:
        await response.content.readany()
        await house.sim_of(response.headers["x-inference-pod"]).kill()
        await response.read()


async def ejected_endpoints(house):
    rows = (await house.debug("endpoints"))["endpoints"]
    return [row["address"] for row in rows if row["ejected"]]


async def picks(house, pod, seconds):
    """Send requests until one is answered by `pod`."""
    end = asyncio.get_running_loop().time() + seconds
    while (await house.chat(f"who {asyncio.get_running_loop().time()}")).pod != pod:
        assert asyncio.get_running_loop().time() < end, f"{pod} was not picked again"
        await asyncio.sleep(0.1)
