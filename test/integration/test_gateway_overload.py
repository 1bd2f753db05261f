"""More requests than the pool has room for, through real Envoy: who goes first, who is refused."""

import asyncio
import json
import os
import time
from collections import Counter
from contextlib import asynccontextmanager
from statistics import mean

import aiohttp
import pytest
import yaml
from support.gateway import CHAT, Variant, chat_body, standing

pytestmark = pytest.mark.envoy

ANSWER_TOKENS = 20
PATIENT = aiohttp.ClientTimeout(total=300)
MOST_MEMORY = 100 << 20
"""Bytes that a flood may cost the picker; 20,000 requests have been seen to cost 33 to 35 MiB."""
FLOOD = int(os.environ.get("EPP_TEST_FLOOD", "1000"))
SIMS = (
    "--time-scale=5",
    "--time-to-first-token=200ms",
    "--inter-token-latency=50ms",
    "--max-num-seqs=3",
)
"""At five times the speed an answer takes some 240 ms, three at a time."""
OVERLOAD = Variant("buffered", "watch", sim_flags=SIMS, trust=True)
TWO_EACH = {"type": "concurrency-detector", "parameters": {"maxConcurrency": 2}}
ROOM = 3 * 2
"""What all endpoints together are given at a time."""
PATIENCE = 45.0
NEVER_SHEDS = ("--max-loop-lag=0s",)
"""The loop of a picker that shares its core with others is late, and then it sheds."""


def config(*plugins, **flow):
    """Flow control with these policies and limits; two requests at each endpoint."""
    listed = [TWO_EACH, *plugins] if "saturationDetector" not in flow else list(plugins)
    detector = {"saturationDetector": {"pluginRef": "concurrency-detector"}}
    return yaml.safe_dump(
        {
            "apiVersion": "llm-d.ai/v1alpha1",
            "kind": "EndpointPickerConfig",
            "featureGates": ["flowControl"],
            "plugins": [{"type": "expected-work-scorer"}, *listed],
            "flowControl": {**detector, **flow},
        }
    )


@asynccontextmanager
async def queueing(*plugins, variant=OVERLOAD, flags=NEVER_SHEDS, **flow):
    written = (f"--config-text={config(*plugins, **flow)}", *flags)
    async with standing(variant.but(picker_flags=written)) as house:
        await is_asked(house)
        yield house


async def is_asked(house):
    """Wait until Envoy's connection to the picker stands: before that it may fail open."""
    async with asyncio.timeout(PATIENCE):
        while "x-epp-endpoint" not in (await house.chat("first")).headers:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


class Crowd:
    """Clients that all ask at once; who is answered when, and how."""

    def __init__(self, house):
        self.house = house
        self.finished = []
        self.tasks = []

    def ask(self, name, count, **fields):
        self.tasks += [asyncio.create_task(self._ask(name, fields)) for _ in range(count)]

    async def _ask(self, name, fields):
        answer = await self.house.chat(
            f"{name}", max_tokens=ANSWER_TOKENS, ignore_eos=True, **fields
        )
        self.finished.append((name, answer))

    async def all(self):
        await asyncio.gather(*self.tasks)
        return self.finished

    def places(self, name):
        return [place for place, (who, _) in enumerate(self.finished) if who == name]


def critical(level, workload):
    context = {"workload_id": workload, "criticality": level}
    return {"headers": {"x-workload-context": json.dumps(context)}}


def of(tenant):
    return {"headers": {"x-llm-d-inference-fairness-id": tenant}}


async def seen(house, met):
    """The first page of requests that is as wanted."""
    end = time.monotonic() + PATIENCE
    while not met(page := await house.debug("requests")):
        assert time.monotonic() < end, (page["open_count"], page["queued_count"])
        await asyncio.sleep(0.02)
    return page


async def queued(house, count):
    """Wait until so many wait for a turn."""
    return await seen(house, lambda page: page["queued_count"] >= count)


@asynccontextmanager
async def standing_still(house, sims=None):
    """No model server computes inside the block: who asks in it waits until it is left."""
    chosen = house.sims if sims is None else sims
    for sim in chosen:
        await sim.faults(stall=True)
    try:
        yield
    finally:
        for sim in chosen:
            await sim.faults(stall=False)


@pytest.mark.slow
async def test_critical_workloads_finish_first_and_nobody_is_left_out():
    params = {"criticalityStep": "60s", "ratePenalty": "0s"}
    ordering = {"type": "workload-ordering-policy", "parameters": params}
    band = {"orderingPolicyRef": "workload-ordering-policy"}
    async with queueing(ordering, defaultPriorityBand=band) as house:
        crowd = Crowd(house)
        async with standing_still(house):
            for level, count in ((1, 40), (3, 25), (5, 15)):
                crowd.ask(level, count, **critical(level, f"level-{level}"))
                await queued(house, len(crowd.tasks) - ROOM)
        answers = await crowd.all()

        low, usual, high = (mean(crowd.places(level)) for level in (1, 3, 5))
        print(f"mean finishing place: {low:.1f} {usual:.1f} {high:.1f}")
        assert [answer.status for _, answer in answers] == [200] * 80
        assert high < usual < low
        assert {a.headers["x-workload-id"] for n, a in answers if n == 5} == {"level-5"}
        await house.comes_to_rest()


@pytest.mark.slow
async def test_a_greedy_tenant_waits_for_its_share():
    fairness = {"type": "deficit-round-robin-fairness-policy", "parameters": {"quantum": 32}}
    band = {"fairnessPolicyRef": "deficit-round-robin-fairness-policy"}
    async with queueing(fairness, defaultPriorityBand=band) as house:
        crowd = Crowd(house)
        async with standing_still(house):
            crowd.ask("greedy", 60, **of("greedy"))
            await queued(house, 60 - ROOM)
            crowd.ask("modest", 8, **of("modest"))
            crowd.ask("small", 8, **of("small"))
            await queued(house, 76 - ROOM)
        await crowd.all()

        last_modest = max(crowd.places("modest") + crowd.places("small"))
        behind = sum(place > last_modest for place in crowd.places("greedy"))
        print(f"greedy requests that finish after the last of the others: {behind} of 60")
        assert behind >= 20
        await house.comes_to_rest()


@pytest.mark.slow
async def test_the_least_critical_is_not_starved():
    """A stream of critical requests that alone is more than the pool can take."""
    params = {"criticalityStep": "100ms", "ratePenalty": "0s"}
    ordering = {"type": "workload-ordering-policy", "parameters": params}
    band = {"orderingPolicyRef": "workload-ordering-policy"}
    async with queueing(ordering, defaultPriorityBand=band) as house:
        crowd = Crowd(house)
        async with standing_still(house):
            crowd.ask("critical", 40, **critical(5, "critical"))
            await queued(house, 40 - ROOM)
            crowd.ask("least", 1, **critical(1, "least"))
            await queued(house, 41 - ROOM)
        for _ in range(25):
            crowd.ask("critical", 4, **critical(5, "critical"))
            await asyncio.sleep(0.05)
        await crowd.all()

        (place,) = crowd.places("least")
        print(f"the least critical request finished as number {place} of {len(crowd.finished)}")
        assert place < len(crowd.finished) - 30
        await house.comes_to_rest()


@pytest.mark.slow
async def test_a_saturated_pod_gets_nothing_while_order_holds_on_the_others():
    detector = {"type": "learned-limit-detector", "parameters": {"initialLimit": 4}}
    chosen = {"saturationDetector": {"pluginRef": "learned-limit-detector"}}
    async with queueing(detector, **chosen) as house:
        full = house.sims[0]
        async with aiohttp.ClientSession() as direct:
            load = [
                asyncio.create_task(hold(direct, full.url + CHAT, tokens=4000)) for _ in range(12)
            ]
            try:
                await full.until(PATIENCE, waiting=9)
                await knows_waiting(house, full, 9)
                crowd = Crowd(house)
                async with standing_still(house, house.sims[1:]):
                    crowd.ask("low", 120, **critical(1, "low"))
                    await queued(house, 100)
                    crowd.ask("high", 10, **critical(5, "high"))
                    await queued(house, 110)
                answers = await crowd.all()
            finally:
                await ended(load)

        pods = Counter(answer.pod for _, answer in answers)
        assert pods[full.name] == 0
        assert set(pods) == {sim.name for sim in house.sims[1:]}
        assert mean(crowd.places("high")) < mean(crowd.places("low"))
        await house.comes_to_rest()


async def knows_waiting(house, sim, count):
    """Wait until the picker has read that so many wait in an engine."""
    end = time.monotonic() + PATIENCE
    while True:
        rows = (await house.debug("endpoints"))["endpoints"]
        (row,) = (row for row in rows if row["address"] == sim.address)
        if row["fresh"] and row["raw"]["waiting"] >= count:
            return
        assert time.monotonic() < end, row
        await asyncio.sleep(0.05)


async def ended(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def hold(session, url, tokens):
    async with session.post(url, json=chat_body("x", max_tokens=tokens, ignore_eos=True)) as answer:
        await answer.read()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_flood_is_refused_with_a_time_and_nothing_is_lost():
    limits = {"maxRequests": 200}
    async with queueing(flags=(), **limits) as house:
        before = await memory(house)
        started = time.monotonic()
        connector = aiohttp.TCPConnector(limit=1000)
        async with aiohttp.ClientSession(connector=connector, timeout=PATIENT) as client:
            async with standing_still(house):
                asked = [asyncio.create_task(flood(client, house, n)) for n in range(FLOOD)]
                await full_queue(house, asked)
            answers = await asyncio.gather(*asked)
        took = time.monotonic() - started
        statuses = Counter(status for status, _ in answers)
        more = await memory(house) - before
        print(f"{dict(statuses)} in {took:.1f} s, {more >> 20} MiB more")

        assert more < MOST_MEMORY
        assert set(statuses) <= {200, 429, 503}
        assert statuses[200] >= 200
        assert all(int(h["retry-after"]) >= 1 for status, h in answers if status != 200)
        reasons = Counter((s, h["x-llm-d-request-dropped-reason"]) for s, h in answers if s != 200)
        assert set(reasons) <= {(429, "rejected-capacity"), (503, "overloaded")}
        assert reasons[429, "rejected-capacity"] > 0
        await house.comes_to_rest()
        page = await house.metrics()
        assert (
            'flow_control_requests_total{inference_pool="file",outcome="RejectedCapacity"' in page
        )


async def full_queue(house, asked):
    """Wait until the queue's limit has turned somebody away."""

    def turned_away(page):
        return 429 in {task.result()[0] for task in asked if task.done()}

    await seen(house, turned_away)


async def flood(client, house, number):
    headers = {"x-llm-d-inference-fairness-id": f"tenant-{number}"}
    body = chat_body("flood", max_tokens=1)
    async with client.post(house.envoy.url + CHAT, json=body, headers=headers) as answer:
        await answer.read()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}


async def memory(house):
    """Resident bytes of the picker."""
    page = await house.metrics()
    (line,) = (row for row in page.splitlines() if row.startswith("process_resident_memory_bytes "))
    return int(float(line.split()[1]))


async def test_a_client_that_leaves_the_queue_leaves_at_once():
    async with queueing() as house:
        crowd = Crowd(house)
        async with standing_still(house):
            crowd.ask("stays", 30)
            page = await queued(house, 30 - ROOM)
            assert sorted(row["position"] for row in page["queued"])[:3] == [1, 2, 3]
            for task in crowd.tasks[10:]:
                task.cancel()
            left = await seen(house, lambda page: page["open_count"] + page["queued_count"] == 10)
        await asyncio.gather(*crowd.tasks, return_exceptions=True)

        assert (left["open_count"], left["queued_count"]) == (ROOM, 10 - ROOM)
        assert [answer.status for _, answer in crowd.finished] == [200] * 10
        await house.comes_to_rest()


@pytest.mark.slow
async def test_waiting_has_an_end():
    async with queueing(variant=OVERLOAD.but(replicas=1), defaultRequestTTL="4s") as house:
        crowd = Crowd(house)
        async with standing_still(house):
            crowd.ask("first", 2)
            await seen(house, lambda page: page["open_count"] == 2)
            crowd.ask("late", 4)
            crowd.ask("in haste", 2, headers={"x-epp-request-ttl-ms": "50"})
            await asyncio.gather(*crowd.tasks[2:])
        answers = await crowd.all()

        late = [answer for name, answer in answers if name != "first"]
        assert [answer.status for answer in late] == [429] * 6
        assert {a.headers["x-llm-d-request-dropped-reason"] for a in late} == {"expired"}
        assert [name for name, answer in answers][:2] == ["in haste", "in haste"]
        assert [answer.status for name, answer in answers if name == "first"] == [200] * 2
        await house.comes_to_rest()


async def test_a_reload_loses_nobody_who_waits(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(config())
    variant = OVERLOAD.but(picker_flags=(f"--config-file={path}", *NEVER_SHEDS))
    async with standing(variant) as house:
        await is_asked(house)
        crowd = Crowd(house)
        async with standing_still(house):
            crowd.ask("before", 40)
            await queued(house, 40 - ROOM)
            path.write_text(config({"type": "fcfs-ordering-policy"}, maxRequests=5))
            await reloaded(house, 1)
            crowd.ask("between", 1)
            path.write_text(config().replace("flowControl", "flowControl=false", 1))
            await reloaded(house, 2)
        answers = await crowd.all()

        assert [answer.status for name, answer in answers if name == "before"] == [200] * 40
        await house.comes_to_rest()


async def reloaded(house, times):
    end = time.monotonic() + PATIENCE
    while (await house.debug("config"))["reloads"] < times:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_requests_wait_for_the_first_endpoint():
    async with queueing(noEndpointRequestTTL="60s") as house:
        listed = house.folder / "endpoints.yaml"
        there = listed.read_text()
        listed.write_text("endpoints: []\n")
        crowd = Crowd(house)
        await gone(house)
        crowd.ask("early", 5)
        await queued(house, 5)
        listed.write_text(there)
        answers = await crowd.all()

        assert [answer.status for _, answer in answers] == [200] * 5
        await house.comes_to_rest()


async def gone(house):
    end = time.monotonic() + PATIENCE
    while (await house.debug("endpoints"))["endpoints"]:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
