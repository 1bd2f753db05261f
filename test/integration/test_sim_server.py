"""The simulator's process and its doors, over real sockets."""

from __future__ import annotations

from support.sims import simulator_here, simulators


def chat(**fields):
    return {"model": "sim-model", "messages": [{"role": "user", "content": "hello"}], **fields}


async def test_processes_are_ready_named_and_killed():
    async with simulators(2, "--model", "m") as sims:
        names = {(await sim.state())["pod"] for sim in sims}
        assert names == {sim.name for sim in sims}


async def test_a_killed_process_comes_back_on_its_port():
    async with simulators(1) as (sim,):
        port, engine = sim.port, (await sim.state())["engine_id"]
        await sim.restart()
        assert sim.port == port
        assert (await sim.state())["engine_id"] != engine


async def test_sigterm_drains_and_exits_with_zero():
    async with simulators(1) as (sim,):
        assert await sim.stop() == 0


async def test_answers_carry_the_pod_headers():
    async with (
        simulator_here(pod="p7", namespace="ns") as sim,
        sim.session.post(f"{sim.url}/v1/chat/completions", json=chat(max_tokens=2)) as answer,
    ):
        shown = [answer.headers[f"x-inference-{part}"] for part in ("pod", "namespace", "port")]
        assert shown == ["p7", "ns", str(sim.port)]
