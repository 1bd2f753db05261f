"""A picker at the end of its core, through real Envoy: who is turned away, and that nobody is lost.

A scorer that blocks the event loop stands in for a full core; so what is tried does not depend on
how fast the machine is, only on more being asked than the picker can do.
"""

import asyncio
import json
from collections import Counter

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.gateway import CHAT, Variant, chat_body, gauge, standing

pytestmark = pytest.mark.envoy

SLOW_SCORER = '''
import time
import numpy as np

class SlowScorer:
    """slow-scorer: no opinion, at the price of 150 ms of the event loop."""

    type = "slow-scorer"

    def score(self, request, pool):
        time.sleep(0.15)
        return np.zeros(len(pool))

PLUGINS = (SlowScorer,)
'''
CONFIG = {
    "apiVersion": "llm-d.ai/v1alpha1",
    "kind": "EndpointPickerConfig",
    "plugins": [{"type": "slow-scorer"}, {"type": "max-score-picker"}],
    "schedulingProfiles": [
        {
            "name": "default",
            "plugins": [{"pluginRef": "slow-scorer"}, {"pluginRef": "max-score-picker"}],
        }
    ],
}
CLIENTS = 60
"""All at once they are worth 9 s of the loop, 90 times what it may lag."""
TOKENS = 120
SIMS = ("--inter-token-latency=1s",)
"""50 ms a token: a stream of `TOKENS` outlasts the beginning of the overload."""
SHIPPED = Variant("buffered", "watch", sim_flags=SIMS)
PROTOCOL = Variant("duplex", "full", sim_flags=SIMS)


def overloaded_by(variant, folder):
    plugin = folder / "slow_scorer.py"
    plugin.write_text(SLOW_SCORER)
    flags = (
        f"--plugin-file={plugin}",
        f"--config-text={yaml.safe_dump(CONFIG)}",
        "--max-loop-lag=100ms",
    )
    return variant.but(picker_flags=flags)


class Crowd:
    """Clients that each ask again as soon as they are answered, until they are told to stop."""

    def __init__(self, house):
        self._house = house
        self._stop = False
        self.answers = Counter()
        self.enough = asyncio.Event()

    async def run(self):
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))

    def stop(self):
        self._stop = True

    async def _client(self, number):
        while not self._stop:
            answer = await self._house.chat(f"client {number}", max_tokens=1)
            reason = answer.headers.get("x-llm-d-request-dropped-reason", "")
            self.answers[answer.status, reason] += 1
            if answer.status == 503:
                assert answer.headers["retry-after"]
                assert json.loads(answer.body)["error"]["message"]
            if min(self.answers[200, ""], self.answers[503, "overloaded"]) >= CLIENTS:
                self.enough.set()


async def events_of_a_stream(house, begun):
    """The data of every event of a long stream; `begun` is set at the first."""
    body = chat_body("a long story", stream=True, max_tokens=TOKENS, ignore_eos=True)
    async with house.client.post(house.envoy.url + CHAT, json=body) as response:
        assert response.status == 200
        events = []
        async for line in response.content:
            if line.startswith(b"data: "):
                begun.set()
                events.append(line.removeprefix(b"data: ").strip())
        return events


async def liveness(house):
    """What the health port says, asked as a kubelet asks."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.picker.ports['health']}") as channel:
        asked = health_pb2.HealthCheckRequest(service="liveness")
        return (await health_pb2_grpc.HealthStub(channel).Check(asked, timeout=30)).status


async def serves_again(house):
    """The first answer that is no refusal; fails when none comes."""
    for _ in range(300):
        if (await house.chat("after the rush")).status == 200:
            return
        await asyncio.sleep(0.2)
    pytest.fail("still refuses when nobody asks any more")


@pytest.mark.parametrize("variant", [SHIPPED, PROTOCOL], ids=str)
async def test_at_its_ceiling_the_picker_turns_new_requests_away_and_loses_none(variant, tmp_path):
    async with standing(overloaded_by(variant, tmp_path)) as house:
        begun = asyncio.Event()
        stream = asyncio.create_task(events_of_a_stream(house, begun))
        await begun.wait()
        crowd = Crowd(house)
        rush = asyncio.create_task(crowd.run())
        async with asyncio.timeout(90):
            await crowd.enough.wait()
        health = await liveness(house)
        events = await stream
        crowd.stop()
        await rush
        page = await house.metrics()

        assert set(crowd.answers) == {(200, ""), (503, "overloaded")}
        assert health == health_pb2.HealthCheckResponse.SERVING
        assert events[-1] == b"[DONE]"
        assert sum(b'"content"' in event for event in events) >= TOKENS
        assert gauge(page, "llm_d_epp_event_loop_lag_distribution_seconds_sum") > 0.1
        await serves_again(house)
        await house.comes_to_rest()
