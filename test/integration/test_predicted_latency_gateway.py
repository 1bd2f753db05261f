"""Latencies learned from real answers: the error falls, and an SLO is kept by where requests go."""

import asyncio
import random

import pytest
from support.gateway import Variant, gauge, standing

pytestmark = pytest.mark.envoy

CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: predicted-latency-producer
- type: slo-headroom-tier-filter
  parameters: {epsilonExploreNeg: 0}
- type: random-picker
schedulingProfiles:
- name: default
  plugins: [{pluginRef: slo-headroom-tier-filter}, {pluginRef: random-picker}]
"""
LATE_MS, SLOW = 600, 4.0
SIM_FLAGS = (
    "--latency-calculator=per-token",
    "--prefill-overhead=100ms",
    "--prefill-time-per-token=1ms",
    "--inter-token-latency=20ms",
    "--max-num-seqs=64",
    "--kv-cache-size=8192",
    "--time-scale=1",
)
FULL = Variant(
    "duplex",
    "full",
    replicas=3,
    trust=True,
    sim_flags=SIM_FLAGS,
    picker_flags=(f"--config-text={CONFIG}",),
)
STREAM = {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}


def prompt(chance, tokens):
    """Words that no cache holds."""
    return f"{chance.random()} " + "word " * (tokens * 4 // 5)


async def ask(house, chance, tokens, **headers):
    text = prompt(chance, tokens)
    return await house.chat(text, headers=headers, max_tokens=6, **STREAM)


async def traffic(house, chance, count):
    """So many requests of 50 to 500 tokens, eight at a time."""
    todo = iter(range(count))

    async def client():
        for _ in todo:
            answer = await ask(house, chance, chance.randrange(50, 500))
            assert answer.status == 200

    await asyncio.gather(*(client() for _ in range(8)))


def series(page, family, **labels):
    """The sum of those samples of a family that have these labels."""
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    lines = [line for line in page.splitlines() if all(each in line for each in wanted)]
    return gauge("\n".join(lines), family)


def mean_error(page, target="ttft"):
    name = "llm_d_epp_latency_prediction_error_ratio"
    return tuple(series(page, f"{name}_{part}", target=target) for part in ("sum", "count"))


@pytest.mark.slow
async def test_the_error_falls_and_requests_go_where_their_slo_is_met():
    chance = random.Random(5)
    async with standing(FULL) as house:
        slow = house.sims[0]
        await slow.faults(slow=SLOW)
        await traffic(house, chance, 80)
        first_sum, first_count = mean_error(await house.metrics())
        await traffic(house, chance, 120)
        page = await house.metrics()
        recent = series(page, "llm_d_epp_latency_prediction_recent_error_ratio", target="ttft")
        asked = [
            await ask(house, chance, 200, **{"x-llm-d-slo-ttft-ms": str(LATE_MS)})
            for _ in range(12)
        ]
        free = [await ask(house, chance, 100) for _ in range(12)]

        assert series(page, "llm_d_epp_latency_prediction_warm") == 2
        assert recent < first_sum / first_count
        assert slow.name not in {answer.pod for answer in asked}
        assert slow.name in {answer.pod for answer in free}
        await house.comes_to_rest()


async def test_in_watch_mode_it_stays_cold_and_serves_all_the_same():
    chance = random.Random(6)
    async with standing(FULL.but(response="watch", replicas=1)) as house:
        answers = [await ask(house, chance, 50) for _ in range(3)]
        page = await house.metrics()

        assert [answer.status for answer in answers] == [200] * 3
        assert series(page, "llm_d_epp_latency_prediction_samples_total") == 0
        assert 'llm_d_epp_plugin_blind{plugin_name="predicted-latency-producer"' in page
