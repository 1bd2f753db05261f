"""What a gateway answers while no picker does, in the default variant and in the one that is
compatible with the Go pickers' tests: open and closed, with and without a forged destination.
"""

from collections.abc import AsyncIterator

import pytest
from support.cluster import ROOT, Cluster, manifest, render
from support.cluster_api import Object, until
from support.suite import TESTDATA, Reply, Suite, completion

GATEWAYS = ROOT / "config" / "manifests" / "gateway"
SIMULATORS = ROOT / "config" / "manifests" / "vllm" / "sim-deployment.yaml"
FORGED = {"x-gateway-destination-endpoint": "127.0.0.1:19000"}


async def deserted(cluster: Cluster, variant: str) -> Suite:
    """A namespace with model servers and a gateway whose picker's Service has no pods."""
    namespace = f"deserted-{variant}"
    await cluster.open_namespace(namespace)
    await cluster.apply(manifest(TESTDATA / "client.yaml", E2E_NS=namespace))
    await cluster.apply(manifest(SIMULATORS), namespace)
    await cluster.apply([picker_service()], namespace)
    await cluster.apply(render(GATEWAYS / variant), namespace)
    await cluster.until_available(namespace, "vllm-llama3-8b-instruct", 120)
    await cluster.until_available(namespace, "envoy", 120)
    await cluster.until_ready_pod(namespace, "curl", 60)
    return Suite(cluster, namespace, "", SIMULATORS, elected=False)


def picker_service() -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "vllm-llama3-8b-instruct-epp"},
        "spec": {"selector": {"app": "nobody"}, "ports": [{"port": 9002}]},
    }


async def gone(suite: Suite) -> None:
    await suite.cluster.api.delete("Namespace", suite.namespace)


@pytest.fixture(scope="module")
async def opened(bare: Cluster) -> AsyncIterator[Suite]:
    suite = await deserted(bare, "envoy")

    async def resolved() -> bool:
        return (await get(suite, {})).status == 200

    # Envoy asks for the pool's addresses every five seconds; the first answer may be too early.
    await until(resolved, 20, "Envoy does not find the pool's pods")
    yield suite
    await gone(suite)


@pytest.fixture(scope="module")
async def closed(bare: Cluster) -> AsyncIterator[Suite]:
    suite = await deserted(bare, "envoy-duplex")
    yield suite
    await gone(suite)


async def get(suite: Suite, headers: dict[str, str]) -> Reply:
    return await suite.curl(f"http://envoy.{suite.namespace}.svc:8081/v1/models", headers)


FORGERIES = pytest.mark.parametrize("forged", [{}, FORGED], ids=["honest", "forged"])


@FORGERIES
async def test_the_default_serves_a_post_from_the_pool(
    opened: Suite, forged: dict[str, str]
) -> None:
    body = {**completion("open"), "model": "food-review-1"}

    reply = await opened.post("/v1/completions", body, forged)

    assert reply.status == 200, reply.body
    assert reply.headers["x-inference-pod"].startswith("vllm-llama3-8b-instruct-")


@FORGERIES
async def test_the_default_serves_a_get_from_the_pool(
    opened: Suite, forged: dict[str, str]
) -> None:
    reply = await get(opened, forged)

    assert reply.status == 200, reply.body
    assert reply.headers["x-inference-pod"].startswith("vllm-llama3-8b-instruct-")


@FORGERIES
async def test_duplex_refuses_a_post(closed: Suite, forged: dict[str, str]) -> None:
    reply = await closed.post("/v1/completions", completion("closed"), forged)

    assert reply.status in (500, 503), reply.body


@FORGERIES
async def test_duplex_refuses_a_get(closed: Suite, forged: dict[str, str]) -> None:
    reply = await get(closed, forged)

    assert reply.status in (500, 503), reply.body
