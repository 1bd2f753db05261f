"""Overload through real Envoy: what the pool still gives, and what a pod that fails takes along."""

import asyncio
import time
from collections import Counter

import pytest
import yaml
from support.gateway import Variant, standing

pytestmark = [pytest.mark.envoy, pytest.mark.slow]

SIMS = (
    "--time-scale=1",
    "--time-to-first-token=200ms",
    "--inter-token-latency=50ms",
    "--max-num-seqs=3",
)
"""An answer of 20 tokens takes 1.15 s, three at a time: long beside what the machine adds."""
ROOM = 6
"""What three simulators take at two each."""
LONG = {"max_tokens": 20, "ignore_eos": True}
MODES = [("buffered", "watch"), ("duplex", "full")]


def config(**flow):
    return yaml.safe_dump(
        {
            "apiVersion": "llm-d.ai/v1alpha1",
            "kind": "EndpointPickerConfig",
            "featureGates": ["flowControl"],
            "plugins": [
                {"type": "expected-work-scorer"},
                {"type": "concurrency-detector", "parameters": {"maxConcurrency": 2}},
            ],
            "flowControl": {"saturationDetector": {"pluginRef": "concurrency-detector"}, **flow},
        }
    )


def variant(asked="buffered", answered="watch", **flow):
    flags = (f"--config-text={config(**flow)}",)
    return Variant(asked, answered, sim_flags=SIMS, trust=True, picker_flags=flags)


def reason(answer):
    return answer.headers.get("x-llm-d-request-dropped-reason", "")


class Finished:
    """Asks, and remembers when each good answer was there."""

    def __init__(self, house):
        self._house = house
        self._times = []

    async def ask(self, number):
        answer = await self._house.chat(f"{number}", **LONG)
        if answer.status == 200:
            self._times.append(time.monotonic())
        return answer

    def rate(self):
        """Answers in a second without the first and the last of every place, when not all work."""
        steady = sorted(self._times)[ROOM:-ROOM]
        return (len(steady) - 1) / (steady[-1] - steady[0])


async def unloaded(house, count):
    """Answers in a second while as many clients ask as there is room for, and none waits."""
    finished, left = Finished(house), iter(range(count))

    async def client():
        for number in left:
            assert (await finished.ask(number)).status == 200

    await asyncio.gather(*(client() for _ in range(ROOM)))
    return finished.rate()


@pytest.mark.parametrize(("asked", "answered"), MODES, ids=["-".join(mode) for mode in MODES])
async def test_the_admitted_are_all_served_and_the_pods_stay_busy(asked, answered):
    async with standing(variant(asked, answered, maxRequests=54)) as house:
        alone = await unloaded(house, 60)
        loaded = Finished(house)
        answers = await asyncio.gather(*(loaded.ask(n) for n in range(300)))
        served = [answer for answer in answers if answer.status == 200]
        refused = Counter((a.status, reason(a)) for a in answers if a.status != 200)
        pods = Counter(answer.pod for answer in served)
        rate = loaded.rate()
        print(f"unloaded {alone:.1f}/s, of 300 at once {len(served)} at {rate:.1f}/s")

        assert rate >= 0.9 * alone
        assert len(served) >= ROOM + 54
        assert set(refused) == {(429, "rejected-capacity")}
        assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status == 429)
        assert len(served) + sum(refused.values()) == 300
        assert len(pods) == 3
        assert min(pods.values()) > max(pods.values()) / 2
        await house.comes_to_rest()


async def test_a_pod_that_fails_under_load_takes_no_more_than_it_had():
    async with standing(variant()) as house:
        tasks = [asyncio.create_task(house.chat(f"{n}", **LONG)) for n in range(90)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        dying = house.sims[0]
        await dying.kill()
        answers = await asyncio.gather(*tasks)
        statuses = Counter(answer.status for answer in answers)
        pods = Counter(a.pod for a in answers if a.status == 200)
        print(f"one of three pods killed: {dict(statuses)}, {dict(pods)}")

        assert set(statuses) <= {200, 502, 503, 504}
        assert statuses[200] >= 60
        assert not any(reason(answer) for answer in answers), "refused for what an endpoint did"
        alive = {sim.name for sim in house.sims[1:]}
        assert all(pods[name] >= 20 for name in alive)
        assert (await house.chat("after")).pod in alive
        await house.comes_to_rest()
