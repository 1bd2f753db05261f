"""One picker: what a client sees while pods, pool and picker change, or fail."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from support.cluster_api import until
from support.suite import MODEL_SERVER, PICKER, Suite, completion, traffic

# How long the picker and Envoy may take to hear of a change.
SETTLE_SECONDS = 3.0


@pytest.fixture(name="three")
async def three_again(suite: Suite) -> AsyncIterator[Suite]:
    yield suite
    await suite.scale(MODEL_SERVER, 3)
    await suite.cluster.until_available(suite.namespace, MODEL_SERVER, 120)


async def test_scaling_to_eight_and_to_two_loses_nothing(three: Suite) -> None:
    async with traffic(await three.gateway(), clients=4) as seen:
        await asyncio.sleep(2)
        await three.scale(MODEL_SERVER, 8)
        await three.cluster.until_available(three.namespace, MODEL_SERVER, 120)
        await asyncio.sleep(SETTLE_SECONDS)
        grown = time.monotonic()
        await asyncio.sleep(4)
        used = seen.since(grown)
        await three.scale(MODEL_SERVER, 2)
        await three.cluster.until_available(three.namespace, MODEL_SERVER, 120)
        await asyncio.sleep(SETTLE_SECONDS)
        shrunk = time.monotonic()
        await asyncio.sleep(2)

    assert seen.lost == [], seen.told()
    assert len(used) == 8, used
    assert len(seen.since(shrunk)) == 2


async def test_a_rollout_of_the_model_servers_loses_nothing(suite: Suite) -> None:
    stamp = {"metadata": {"annotations": {"restarted": str(time.time())}}}
    change = {"spec": {"template": stamp}}
    async with traffic(await suite.gateway(), clients=4) as seen:
        await asyncio.sleep(1)
        await suite.cluster.api.patch("Deployment", MODEL_SERVER, suite.namespace, change)
        await suite.cluster.until_available(suite.namespace, MODEL_SERVER, 180)
        await asyncio.sleep(1)

    assert seen.lost == [], seen.told()


async def test_a_pool_that_names_other_pods_moves_the_traffic(suite: Suite) -> None:
    api, namespace = suite.cluster.api, suite.namespace
    pods = await suite.cluster.pods(namespace, MODEL_SERVER)
    one = pods[0]["metadata"]["name"]
    label = {"metadata": {"labels": {"blue": "yes"}}}
    await api.patch("Pod", one, namespace, label)
    both = {"spec": {"selector": {"matchLabels": {"app": MODEL_SERVER, "blue": "yes"}}}}
    async with traffic(await suite.gateway(), clients=4) as seen:
        await asyncio.sleep(1)
        await api.patch("InferencePool", MODEL_SERVER, namespace, both)
        await asyncio.sleep(SETTLE_SECONDS)
        moved = time.monotonic()
        await asyncio.sleep(2)
        used = seen.since(moved)
        all_of_them = {"spec": {"selector": {"matchLabels": {"blue": None}}}}
        await api.patch("InferencePool", MODEL_SERVER, namespace, all_of_them)
        await asyncio.sleep(SETTLE_SECONDS)

    assert set(used) == {one}
    assert seen.lost == [], seen.told()


async def status(suite: Suite) -> int:
    return (await suite.post("/v1/completions", completion(f"{time.monotonic()}"))).status


async def until_status(suite: Suite, wanted: int) -> None:
    async def answered() -> bool:
        return await status(suite) == wanted

    await until(answered, 30, f"no status {wanted}")


async def test_a_pool_that_is_deleted_refuses_and_comes_back(suite: Suite) -> None:
    (document,) = [each for each in suite.manifest("inferencepool-e2e.yaml") if is_pool(each)]
    await suite.cluster.api.delete("InferencePool", MODEL_SERVER, suite.namespace)
    try:
        await until_status(suite, 503)
        (pod,) = await suite.cluster.pods(suite.namespace, PICKER)
    finally:
        await suite.cluster.apply([document], suite.namespace)

    await until_status(suite, 200)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def is_pool(document: dict) -> bool:
    return document["kind"] == "InferencePool"


async def test_a_model_server_that_dies_is_left_alone_until_it_is_back(suite: Suite) -> None:
    pods = await suite.cluster.pods(suite.namespace, MODEL_SERVER)
    victim = suite.cluster.node.pod(suite.namespace, pods[0]["metadata"]["name"])
    async with traffic(await suite.gateway(), clients=4) as seen:
        await asyncio.sleep(2)
        victim.containers["vllm-sim"].signal(9)
        died = time.monotonic()
        await asyncio.sleep(5)

    # Answers under way on that pod are cut, and one request for each client may meet it.
    assert len(seen.lost) <= 8, seen.told()
    assert all(at < died + SETTLE_SECONDS for at, _ in seen.lost), seen.told()
    await suite.cluster.until_available(suite.namespace, MODEL_SERVER, 60)


async def test_a_rewrite_holds_from_when_it_is_made_until_it_is_deleted(suite: Suite) -> None:
    rewrite = {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": {"name": "by-resource"},
        "spec": {
            "poolRef": {"name": MODEL_SERVER},
            "rules": [
                {
                    "matches": [{"model": {"value": "by-resource"}}],
                    "targets": [{"modelRewrite": "food-review-1"}],
                }
            ],
        },
    }
    headers = {"x-gateway-model-name-rewrite": ""}
    body = {**completion("rewritten"), "model": "by-resource"}

    async def asked() -> int:
        return (await suite.post("/v1/completions", body, headers)).status

    async def served() -> bool:
        return await asked() == 200

    async def unknown() -> bool:
        return await asked() == 404

    await until(unknown, 10, "the model is known before there is a rewrite")
    await suite.cluster.apply([rewrite], suite.namespace)
    await until(served, 10, "the rewrite does not hold")
    await suite.cluster.delete([rewrite], suite.namespace)
    await until(unknown, 10, "the rewrite holds after its end")


async def test_a_picker_that_is_killed_comes_back(suite: Suite) -> None:
    name = await suite.picker()
    runner = suite.cluster.node.pod(suite.namespace, name)
    async with traffic(await suite.gateway(), clients=2) as seen:
        await asyncio.sleep(1)
        runner.containers["epp"].signal(9)
        await asyncio.sleep(1)
        await suite.until_picker(60)
        back = time.monotonic()
        await asyncio.sleep(12)

    print("picker killed, fail closed:", seen.told())
    assert seen.since(back), seen.told()
