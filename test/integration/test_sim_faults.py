"""Every fault does what its name says, and lifting it heals."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest
from support.sims import simulator_here

from vllm_sim.engine import Pacing
from vllm_sim.options import LoraModule

QUICK = Pacing(ttft=0.002, itl=0.001)
ASK = {"model": "m", "prompt": "x" * 64, "max_tokens": 8, "ignore_eos": True}


def sim_here(**options):
    return simulator_here(**{"model": "m", "pacing": QUICK, **options})


async def status_of(sim, **extra):
    async with sim.session.post(f"{sim.url}/v1/completions", json={**ASK, **extra}) as answer:
        await answer.read()
        return answer.status


async def test_errors_come_at_their_rate_and_stop():
    async with sim_here() as sim:
        await sim.faults(error_rate=1.0, error_status=502)
        assert await status_of(sim) == 502
        await sim.faults(clear=True)
        assert await status_of(sim) == 200


async def test_half_the_requests_fail_at_one_half():
    async with sim_here() as sim:
        await sim.faults(error_rate=0.5)
        codes = [await status_of(sim) for _ in range(60)]
        assert 15 < codes.count(503) < 45


async def test_a_hanging_server_never_answers():
    async with sim_here() as sim:
        await sim.faults(hang_rate=1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(status_of(sim), 0.2)


async def test_a_refusing_server_cuts_the_connection():
    async with sim_here() as sim:
        await sim.faults(refuse_rate=1.0)
        with pytest.raises(aiohttp.ClientError):
            await status_of(sim)


async def test_a_stream_is_cut_in_its_middle():
    async with sim_here() as sim:
        await sim.faults(reset_rate=1.0, reset_after_tokens=3)
        ask = {**ASK, "stream": True}
        async with sim.session.post(f"{sim.url}/v1/completions", json=ask) as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        assert (await sim.until(open=0))["requests"]["aborted"] == 1


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/messages", "/v1/responses"])
async def test_a_slow_loris_lets_few_bytes_out_and_all_of_them_in_the_end(path):
    fields = {"prompt": "x", "messages": [{"role": "user", "content": "x"}], "input": "x"}
    ask = {"model": "m", "stream": True, "max_tokens": 2, "max_output_tokens": 2, **fields}
    async with sim_here() as sim:
        async with sim.session.post(f"{sim.url}{path}", json=ask) as answer:
            whole = len(await answer.read())
        await sim.faults(slow_bytes=5000)
        begun = asyncio.get_running_loop().time()
        async with sim.session.post(f"{sim.url}{path}", json=ask) as answer:
            assert len(await answer.read()) == pytest.approx(whole, rel=0.1)
        # A lower bound: no machine is so slow that bytes come early.
        assert asyncio.get_running_loop().time() - begun > 0.8 * whole / 5000


async def test_nothing_is_left_of_a_slow_loris_whose_client_went():
    async with sim_here() as sim:
        await sim.faults(slow_bytes=1)
        ask = {**ASK, "stream": True}
        async with sim.session.post(f"{sim.url}/v1/completions", json=ask) as answer:
            assert answer.status == 200
            answer.close()
        state = await sim.until(open=0)
        assert state["requests"]["in_flight"] <= 1


async def test_a_clock_ahead_shows_in_the_gauge_of_adapters():
    async with sim_here(lora_modules=(LoraModule("a"),)) as sim:
        shown = []
        for skew in (0, 3600, -3600):
            await sim.faults(clock_skew_s=skew)
            (line,) = [
                line
                for line in (await sim.metrics()).splitlines()
                if line.startswith("vllm:lora_requests_info")
            ]
            shown.append(float(line.rsplit(" ", 1)[1]) - time.time())
        assert shown == pytest.approx([0, 3600, -3600], abs=60)


@pytest.mark.parametrize("nixl", [True, False], ids=["nixl", "no connector"])
async def test_an_ended_lease_is_counted_and_shown_where_a_connector_is(nixl):
    hold = {"kv_transfer_params": {"do_remote_decode": True}}
    name = 'vllm:nixl_num_kv_expired_reqs_total{engine="0",model_name="m"}'
    async with sim_here(kv_lease_s=0.05, nixl=nixl) as sim:
        assert (f"{name} 0.0" in await sim.metrics()) is nixl
        assert await status_of(sim, **hold) == 200
        while not (state := await sim.state())["kv"]["expired"]:  # noqa: ASYNC110  # over HTTP
            await asyncio.sleep(0.02)
        assert state["kv"]["pinned"] == 0
        assert (f"{name} 1.0" in await sim.metrics()) is nixl


async def test_a_stalled_server_goes_on_when_it_is_let():
    async with sim_here() as sim:
        await sim.faults(stall=True)
        task = asyncio.create_task(status_of(sim))
        await sim.until(open=1)
        await asyncio.sleep(0.05)
        assert not task.done()
        await sim.faults(stall=False)
        assert await task == 200


async def test_a_slow_server_takes_its_time():
    async with sim_here(pacing=Pacing(ttft=0.01, itl=0.01)) as sim:
        loop = asyncio.get_running_loop()
        await sim.faults(slow=5.0)
        begun = loop.time()
        await status_of(sim)
        assert loop.time() - begun >= 0.4


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("wrong", 'vllm:num_requests_waiting{engine="0",model_name="m"} 77.0'),
        ("broken", "not-a-number"),
        (
            "stale",
            'vllm:request_success_total{engine="0",model_name="m",finished_reason="length"} 0',
        ),
        ("error", "Internal Server Error"),
        ("empty", ""),
    ],
)
async def test_metrics_lie_when_told_to(mode, shown):
    async with sim_here() as sim:
        await sim.faults(metrics=mode, metrics_waiting=77)
        await status_of(sim)
        assert shown in await sim.metrics()


async def test_a_restarted_engine_is_another_one():
    async with sim_here() as sim:
        await status_of(sim)
        before = await sim.state()
        await sim.faults(restart=True)
        after = await sim.state()
        assert after["engine_id"] != before["engine_id"]
        assert (before["kv"]["cached"] > 0, after["kv"]["cached"]) == (True, 0)
        assert await status_of(sim) == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"hang": 1},
        {"error_rate": 2},
        {"slow": 0},
        {"metrics": "odd"},
        {"stall": 1},
        {"slow_bytes": -1},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_wrong_fault_is_refused_by_name(fields):
    async with sim_here() as sim, sim.session.post(f"{sim.url}/sim/faults", json=fields) as answer:
        body = await answer.json()
        assert answer.status == 400
        assert body["error"]["param"] == next(iter(fields))


async def test_a_header_forces_a_status():
    async with (
        sim_here() as sim,
        sim.session.post(
            f"{sim.url}/v1/completions", json=ASK, headers={"X-Return-Error": "rate_limit"}
        ) as answer,
    ):
        assert answer.status == 429
