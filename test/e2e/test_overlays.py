"""The shipped pickers behind the shipped Envoys: rollouts under load, and what they cost."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.cluster import ROOT, Cluster, manifest, moved, render
from support.cluster_api import until
from support.suite import PICKER, TESTDATA, Suite, traffic

MANIFESTS = ROOT / "config" / "manifests"
SIMULATORS = MANIFESTS / "vllm" / "sim-deployment.yaml"
READY_SECONDS = 120.0
# A name that pods know without a picker: rewrites are the picker's, and end with it.
SERVED = "food-review-1"


async def shipped(cluster: Cluster, overlay: str, gateway: str, image: str) -> Suite:
    """Pool, picker, model servers and gateway as `config/manifests` has them."""
    namespace = f"{overlay}-{gateway}"
    suite = Suite(cluster, namespace, image, SIMULATORS, elected=overlay != "single")
    await cluster.open_namespace(namespace)
    await cluster.apply(manifest(TESTDATA / "client.yaml", E2E_NS=namespace))
    folders = ("pool", "vllm", f"epp/overlays/{overlay}", f"gateway/{gateway}")
    for folder in folders:
        await cluster.apply(moved(render(MANIFESTS / folder), namespace), namespace)
    await cluster.until_available(namespace, "vllm-llama3-8b-instruct", READY_SECONDS)
    if overlay == "ha":
        await cluster.until_available(namespace, PICKER, READY_SECONDS)
    else:
        await suite.until_picker(READY_SECONDS)
    await cluster.until_available(namespace, "envoy", READY_SECONDS)
    await asyncio.sleep(6)
    return suite


VARIANTS = [
    (overlay, gateway)
    for overlay in ("single", "ha-compat", "ha")
    for gateway in ("envoy", "envoy-duplex")
]


@pytest.fixture(scope="module", params=VARIANTS, ids="-".join, name="variant")
async def a_variant(
    bare: Cluster, request: pytest.FixtureRequest, image: str
) -> AsyncIterator[Suite]:
    suite = await shipped(bare, *request.param, image)
    yield suite
    await bare.api.delete("Namespace", suite.namespace)


def may_lose(suite: Suite) -> bool:
    """Only readiness as leadership, behind a gateway that fails closed, has a gap."""
    return suite.namespace == "ha-compat-envoy-duplex"


async def test_a_rollout_of_the_picker(variant: Suite) -> None:
    stamp = {"metadata": {"annotations": {"restarted": str(time.time())}}}
    change = {"spec": {"template": stamp}}
    async with traffic(await variant.gateway(), clients=3, model=SERVED) as seen:
        await asyncio.sleep(1)
        await variant.cluster.api.patch("Deployment", PICKER, variant.namespace, change)
        await until_rolled_out(variant)
        await asyncio.sleep(6)

    print(f"{variant.namespace}: rollout: {seen.told()}")
    assert may_lose(variant) or seen.lost == [], seen.told()
    assert seen.since(time.monotonic() - 3)


async def until_rolled_out(suite: Suite) -> None:
    if "ha-compat" not in suite.namespace:
        await suite.cluster.until_available(suite.namespace, PICKER, READY_SECONDS)
        return
    await suite.cluster.until_updated(suite.namespace, PICKER, READY_SECONDS)
    await suite.until_picker(READY_SECONDS)


async def test_a_picker_that_is_killed(variant: Suite) -> None:
    runner = variant.cluster.node.pod(variant.namespace, await serving(variant))
    async with traffic(await variant.gateway(), clients=3, model=SERVED) as seen:
        await asyncio.sleep(1)
        runner.containers["epp"].signal(9)
        await asyncio.sleep(2)
        await until(lambda: served(variant), 60, "no picker behind the Service")
        # The gateway may take as long to see it: two intervals of its health checks.
        await asyncio.sleep(4)
        last = time.monotonic()
        await asyncio.sleep(3)

    print(f"{variant.namespace}: picker killed: {seen.told()}")
    assert "duplex" in variant.namespace or seen.lost == [], seen.told()
    assert seen.since(last), seen.told()


async def served(suite: Suite) -> bool:
    return len(await named_by_service(suite)) == 1


async def serving(suite: Suite) -> str:
    """The picker that the Service names."""
    (name,) = await named_by_service(suite)
    return name


async def named_by_service(suite: Suite) -> list[str]:
    """The ready pods behind the pickers' Service."""
    slices = await suite.cluster.api.list(
        "EndpointSlice", suite.namespace, labels={"kubernetes.io/service-name": PICKER}
    )
    return [
        endpoint["targetRef"]["name"]
        for each in slices
        for endpoint in each.get("endpoints") or ()
        if endpoint["conditions"].get("ready")
    ]


def test_every_overlay_is_tried() -> None:
    found = {path.name for path in Path(MANIFESTS / "epp" / "overlays").iterdir()}

    assert found == {overlay for overlay, _ in VARIANTS}
