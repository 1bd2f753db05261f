"""More requests than three small model servers have room for: who goes first, and who waits.

Objectives, criticalities, tenants and a pod that others have filled, on the deployment of the seed
with flow control in its ConfigMap.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import aiohttp
import pytest
import yaml
from support.cluster import Cluster
from support.cluster_api import Object, until
from support.suite import KEPT_ALIVE, MODEL_SERVER, TARGET, Suite, completion

ROOM = "saturation"
URGENT = "urgent"
ANSWER_TOKENS = 20
SMALL = (
    "--time-to-first-token=200ms",
    "--inter-token-latency=50ms",
    "--max-num-seqs=3",
    "--max-model-len=10000",
)
"""An answer takes 1.15 s, three at a time."""
TWO_EACH = {"type": "concurrency-detector", "parameters": {"maxConcurrency": 2}}
LEARNED = {"type": "learned-limit-detector", "parameters": {"initialLimit": 4}}
PATIENCE = aiohttp.ClientTimeout(total=120)


def config(detector: Object) -> Object:
    """The data of the picker's ConfigMap: flow control, with room as `detector` sees it."""
    ordering = {"type": "workload-ordering-policy", "parameters": {"criticalityStep": "2s"}}
    fairness = {"type": "deficit-round-robin-fairness-policy", "parameters": {"quantum": 32}}
    band = {"orderingPolicyRef": ordering["type"], "fairnessPolicyRef": fairness["type"]}
    told = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "featureGates": ["flowControl"],
        "plugins": [{"type": "expected-work-scorer"}, detector, ordering, fairness],
        "flowControl": {
            "saturationDetector": {"pluginRef": detector["type"]},
            "defaultPriorityBand": band,
        },
    }
    return {"default-plugins.yaml": yaml.safe_dump(told)}


class Small(Suite):
    """The seed's deployment with flow control."""

    def manifest(self, name: str) -> list[Object]:
        found = super().manifest(name)
        for each in found:
            if each["kind"] == "ConfigMap" and "default-plugins.yaml" in each["data"]:
                each["data"] = config(TWO_EACH)
        return found


@pytest.fixture(scope="module", name="small")
async def a_small_pool(bare: Cluster, image: str) -> AsyncIterator[Suite]:
    await bare.open_namespace(ROOM)
    deployed = Small(bare, ROOM, image, Path(os.environ["MANIFEST_PATH"]), elected=False)
    await deployed.deploy()
    before = await bare.api.get("Deployment", MODEL_SERVER, ROOM)
    (container,) = before["spec"]["template"]["spec"]["containers"]
    container = {**container, "args": [*container["args"], *SMALL]}
    change = {"spec": {"template": {"spec": {"containers": [container]}}}}
    await bare.api.patch("Deployment", MODEL_SERVER, ROOM, change)
    await bare.until_updated(ROOM, MODEL_SERVER, 180)
    await bare.until_available(ROOM, MODEL_SERVER, 180)
    await deployed.apply_objective(URGENT, 9)
    yield deployed
    await bare.api.delete("Namespace", ROOM)


@pytest.fixture(name="learning")
async def limits_are_learned(small: Suite) -> AsyncIterator[Suite]:
    """The ConfigMap changes under the running picker: limits go by what the pods' queues tell."""
    await reload(small, LEARNED)
    yield small
    await reload(small, TWO_EACH)


async def reload(suite: Suite, detector: Object) -> None:
    runner = suite.cluster.node.pod(ROOM, await suite.picker())
    log = runner.log_path("epp")
    before = log.read_text().count("configuration reloaded")
    await suite.cluster.api.patch("ConfigMap", "plugins-config", ROOM, {"data": config(detector)})

    async def taken() -> bool:
        return log.read_text().count("configuration reloaded") > before

    await until(taken, 120, "the picker does not take the configuration")


@dataclass
class Crowd:
    """Clients that all ask at once; who was answered when, and by whom."""

    http: aiohttp.ClientSession
    finished: list[tuple[str, int, str]] = field(default_factory=list)
    """Name, status and pod, in the order of the answers' ends."""
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def ask(self, name: str, count: int, **headers: str) -> None:
        named = {each.replace("_", "-"): value for each, value in headers.items()}
        self.tasks += [asyncio.create_task(self._ask(name, named)) for _ in range(count)]

    async def _ask(self, name: str, headers: dict[str, str]) -> None:
        body = completion(f"{name} {len(self.tasks)}", max_tokens=ANSWER_TOKENS, ignore_eos=True)
        sent = KEPT_ALIVE | headers
        async with self.http.post("/v1/completions", json=body, headers=sent) as answer:
            await answer.read()
            pod = answer.headers.get("x-inference-pod", "")
            self.finished.append((name, answer.status, pod))

    async def all(self) -> None:
        await asyncio.gather(*self.tasks)

    @property
    def statuses(self) -> Counter[int]:
        return Counter(status for _, status, _ in self.finished)

    def places(self, name: str) -> list[int]:
        return [place for place, (who, _, _) in enumerate(self.finished) if who == name]


@asynccontextmanager
async def crowd_of(suite: Suite) -> AsyncIterator[Crowd]:
    url = await suite.gateway()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, timeout=PATIENCE, connector=connector) as http:
        yield Crowd(http)


def critical(level: int, workload: str) -> dict[str, str]:
    context = {"workload_id": workload, "criticality": level}
    return {"x_workload_context": json.dumps(context)}


async def test_objectives_are_bands_and_criticality_orders_within_one(small: Suite) -> None:
    async with crowd_of(small) as crowd:
        for level, count in ((1, 24), (3, 18), (5, 12)):
            crowd.ask(f"criticality {level}", count, **critical(level, f"level-{level}"))
        crowd.ask(URGENT, 6, x_gateway_inference_objective=URGENT)
        await crowd.all()

    names = (URGENT, "criticality 5", "criticality 3", "criticality 1")
    places = {name: round(mean(crowd.places(name)), 1) for name in names}
    print(f"saturation: mean finishing place of 60: {places}")
    assert crowd.statuses == {200: 60}
    assert list(places.values()) == sorted(places.values())


async def test_a_greedy_tenant_waits_for_its_share(small: Suite) -> None:
    async with crowd_of(small) as crowd:
        for tenant, count in (("greedy", 48), ("modest", 6), ("small", 6)):
            crowd.ask(tenant, count, x_llm_d_inference_fairness_id=tenant)
        await crowd.all()

    last_modest = max(crowd.places("modest") + crowd.places("small"))
    behind = sum(place > last_modest for place in crowd.places("greedy"))
    print(f"saturation: {behind} of 48 greedy requests finish after the last of the others")
    assert crowd.statuses == {200: 60}
    assert behind >= 20


async def test_the_least_critical_waits_no_longer_than_its_age_is_worth(small: Suite) -> None:
    """Critical requests alone are more than the pool can take; eight seconds make up for it."""
    async with crowd_of(small) as crowd:
        crowd.ask("critical", 30, **critical(5, "critical"))
        crowd.ask("least", 1, **critical(1, "least"))
        for _ in range(22):
            await asyncio.sleep(0.7)
            crowd.ask("critical", 4, **critical(5, "critical"))
        await crowd.all()

    (place,) = crowd.places("least")
    print(f"saturation: the least critical finishes as number {place} of {len(crowd.finished)}")
    assert crowd.statuses == {200: 119}
    assert place < len(crowd.finished) - 25


async def test_a_full_pod_gets_nothing_while_order_holds_on_the_others(learning: Suite) -> None:
    full, *others = await learning.cluster.ready(ROOM, MODEL_SERVER)
    url = f"http://{full['status']['podIP']}:8000"
    async with crowd_of(learning) as crowd, aiohttp.ClientSession(url, timeout=PATIENCE) as direct:
        load = [asyncio.create_task(hold(direct)) for _ in range(12)]
        try:
            await until(lambda: waits(direct, 9), 30, "the pod does not fill")
            await asyncio.sleep(2)
            crowd.ask("low", 30, **critical(1, "low"))
            crowd.ask("high", 6, **critical(5, "high"))
            await crowd.all()
        finally:
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)

    pods = Counter(pod for _, _, pod in crowd.finished)
    print(f"saturation: beside a full pod {dict(pods)}")
    assert crowd.statuses == {200: 36}
    assert set(pods) == {pod["metadata"]["name"] for pod in others}
    assert mean(crowd.places("high")) < mean(crowd.places("low"))


async def hold(direct: aiohttp.ClientSession) -> None:
    body = {**completion("hold", max_tokens=2_000, ignore_eos=True), "model": TARGET}
    async with direct.post("/v1/completions", json=body) as answer:
        await answer.read()


async def waits(direct: aiohttp.ClientSession, count: int) -> bool:
    async with direct.get("/metrics") as answer:
        page = await answer.text()
    (line,) = (row for row in page.splitlines() if row.startswith("vllm:num_requests_waiting{"))
    return float(line.split()[-1]) >= count
