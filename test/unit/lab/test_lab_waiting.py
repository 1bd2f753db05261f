"""Policies that make requests wait: the queue that serves, in virtual time."""

import asyncio

import pytest

from epp_lab.agenda import Agenda
from epp_lab.baselines import OVERLOAD
from epp_lab.job import Job
from epp_lab.loop import VirtualLoop
from epp_lab.run import run_workload
from epp_lab.simulation import Member, Setting, Simulation
from epp_lab.workload import load_workload
from vllm_sim.engine import EngineConfig

QUEUES = tuple(name for name in OVERLOAD if "flow-control" in name)
CONFIG = EngineConfig.named("h100-llama-8b", block_size=64, num_gpu_blocks=400)
"""25,600 tokens of memory: two prompts of 10,000, which take half a second each."""


def job(at, number, tokens=10_000, answer=200, **fields):
    return Job(arrival=at, prompt=((number, tokens),), output_tokens=answer, **fields)


def outcomes(policy, jobs, replicas=1):
    setting = Setting(members=(Member(CONFIG),) * replicas)
    return Simulation(policy, jobs, setting, 0).run().outcomes


def streaming(count, **fields):
    """Ten in a second, several times what there is room for; every fourth with `fields`."""
    return [
        job(0.1 * number, number + 1, **(fields if number % 4 == 0 else {}))
        for number in range(count)
    ]


@pytest.mark.parametrize("policy", OVERLOAD)
def test_every_policy_serves_who_comes_slowly(policy):
    jobs = [job(2.0 * number, number + 1, tokens=500) for number in range(8)]

    assert [each.refused for each in outcomes(policy, jobs)] == [""] * 8


@pytest.mark.parametrize("policy", [name for name in QUEUES if "60s" not in name])
def test_who_waits_longer_than_allowed_is_refused(policy):
    found = outcomes(policy, streaming(100))
    refused = [each for each in found if not each.served]

    assert {each.refused for each in refused} == {"expired"}
    assert 0 < len(refused) < 100
    assert min(each.waited for each in refused) == pytest.approx(1.0)


@pytest.mark.parametrize("policy", QUEUES)
def test_one_seed_one_result_for_those_who_wait(policy):
    workload = load_workload("bursts").model_copy(update={"count": 150})
    one, other = (run_workload(workload, policy, 2.0, 3).measure for _ in range(2))

    assert one == other


@pytest.mark.parametrize("policy", ["flow-control", "flow-control-fair"])
def test_higher_priority_is_served_first(policy):
    found = outcomes(policy, streaming(100, priority=10))
    served = {p: [e.served for e in found if e.priority == p] for p in (0, 10)}

    assert sum(served[10]) / len(served[10]) > 2 * sum(served[0]) / len(served[0])


def test_critical_workloads_wait_less_in_our_queue():
    found = outcomes("flow-control-60s", streaming(100, workload="w", criticality=5))
    waits = {c: [e.waited for e in found if e.criticality == c] for c in (3, 5)}

    assert sum(waits[5]) / len(waits[5]) < sum(waits[3]) / len(waits[3])


def test_waiting_in_virtual_time_takes_none():
    agenda = Agenda()
    loop = VirtualLoop(agenda)

    async def sleeper():
        async with asyncio.timeout(3600):
            await asyncio.sleep(1800)
        return agenda.now

    with loop.running():
        task = asyncio.ensure_future(loop.create_task(sleeper()))
        agenda.run(task.done)

    assert task.result() == 1800


def test_what_a_callback_raises_ends_the_run():
    agenda = Agenda()
    loop = VirtualLoop(agenda)

    def broken():
        raise LookupError("of a callback")

    loop.call_later(1.0, broken)
    with pytest.raises(LookupError, match="of a callback"):
        agenda.run(lambda: False)
