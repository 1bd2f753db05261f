"""Deployments made for the Go pickers, with another image and nothing else: they serve."""

from collections.abc import AsyncIterator

import pytest
from support.cluster import ROOT, Cluster, manifest, moved
from support.cluster_api import Object, until
from support.suite import (
    ELECTED,
    MODEL_SERVER,
    OBJECTIVE,
    PICKER,
    TESTDATA,
    Suite,
    completion,
    objective,
)

ROOM = "old-deployments"
FILES = ("deployment-gaie.yaml", "deployment-llm-d.yaml")


def around(image: str) -> list[Object]:
    """What stands around a picker: pool, Service and rights, those of elected ones too."""
    found = manifest(TESTDATA / ELECTED, E2E_NS=ROOM, E2E_IMAGE=image)
    return moved([each for each in found if each["kind"] not in ("Deployment", "ConfigMap")], ROOM)


@pytest.fixture(scope="module", name="furnished")
async def with_everything_else(bare: Cluster, image: str) -> AsyncIterator[Suite]:
    """A namespace with gateway, client and model servers; all but the picker."""
    path = ROOT / "config" / "manifests" / "vllm" / "sim-deployment.yaml"
    suite = Suite(bare, ROOM, image, path, elected=False)
    await bare.open_namespace(ROOM)
    for name in ("client.yaml", "envoy.yaml"):
        await bare.apply(suite.manifest(name), ROOM)
    await bare.apply([*around(image), *manifest(path), objective(OBJECTIVE, 2)], ROOM)
    await bare.until_available(ROOM, MODEL_SERVER, 120)
    await bare.until_available(ROOM, "envoy", 120)
    await bare.until_ready_pod(ROOM, "curl", 60)
    yield suite
    await bare.api.delete("Namespace", ROOM)


def with_image(document: Object, image: str) -> Object:
    if document["kind"] == "Deployment":
        (container,) = document["spec"]["template"]["spec"]["containers"]
        container["image"] = image
    return document


@pytest.mark.parametrize("name", FILES)
async def test_a_deployment_of_a_go_picker_serves_with_our_image(
    furnished: Suite, name: str, image: str
) -> None:
    found = manifest(TESTDATA / name, E2E_NS=ROOM)
    await furnished.cluster.apply([with_image(each, image) for each in found], ROOM)
    try:
        await furnished.until_picker(90)
        await until(lambda: serves(furnished), 30, "the gateway does not find the picker")
        seen = set()
        # Idle servers are taken at random: of sixty turns none is left out.
        for turn in range(60):
            reply = await furnished.post("/v1/completions", completion(f"{name} {turn}"))
            assert reply.status == 200, reply.body
            seen.add(reply.headers["x-inference-pod"])
        (pod,) = await furnished.cluster.ready(ROOM, PICKER)
        log = await furnished.cluster.log(ROOM, pod["metadata"]["name"])
    finally:
        await furnished.cluster.api.delete("Deployment", PICKER, ROOM)
        await until(lambda: nobody(furnished), 60, "the picker does not go")

    print([line for line in log.splitlines() if "ignored" in line])
    assert len(seen) == 3
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


async def serves(suite: Suite) -> bool:
    return (await suite.post("/v1/completions", completion("first"))).status == 200


async def nobody(suite: Suite) -> bool:
    return not await suite.cluster.api.list("Pod", ROOM, labels={"app": PICKER})
