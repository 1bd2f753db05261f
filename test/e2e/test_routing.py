"""Requests through the gateway, as the client of a platform team sends them."""

import base64
from collections.abc import AsyncIterator

import pytest
from support.cluster_api import Object, until
from support.suite import (
    MODEL,
    MODEL_SERVER,
    OBJECTIVE,
    PICKER,
    TARGET,
    Suite,
    completion,
)

BATCH = 20


def chat(*texts: str, nonce: str) -> Object:
    messages = [{"role": "system", "content": nonce}]
    messages += [{"role": "user", "content": text} for text in texts]
    return {"model": MODEL, "messages": messages, "max_tokens": 100, "temperature": 0}


PAYLOADS = {
    "completions": ("/v1/completions", completion),
    "one message": ("/v1/chat/completions", lambda nonce: chat("Hello", nonce=nonce)),
    "three messages": (
        "/v1/chat/completions",
        lambda nonce: chat("Hello", "How are you?", "Good.", nonce=nonce),
    ),
    "embeddings, a text": ("/v1/embeddings", lambda nonce: embedding(nonce)),
    "embeddings, a list": ("/v1/embeddings", lambda nonce: embedding([nonce, "b"])),
}


def embedding(text: object) -> Object:
    return {"model": MODEL, "input": text}


@pytest.mark.parametrize(("path", "body"), PAYLOADS.values(), ids=PAYLOADS.keys())
async def test_a_model_is_asked_for_by_one_name_and_served_by_another(
    suite: Suite, path: str, body
) -> None:
    reply = await suite.post(path, body(f"once {path}"))

    assert reply.status == 200, reply.body
    assert reply.json()["model"] == MODEL


async def test_all_three_replicas_answer(suite: Suite) -> None:
    seen = set()
    for turn in range(BATCH):
        reply = await suite.post("/v1/completions", completion(f"all {turn}"))
        assert reply.status == 200, reply.body
        seen.add(reply.headers["x-inference-pod"])

    pods = await suite.cluster.pods(suite.namespace, MODEL_SERVER)
    assert seen == {pod["metadata"]["name"] for pod in pods}


async def test_a_request_without_a_model_is_told_so(suite: Suite) -> None:
    no_rewrite = {"x-gateway-model-name-rewrite": ""}

    reply = await suite.post("/v1/completions", {"prompt": "hello"}, no_rewrite)

    assert reply.status == 400
    assert "model" in reply.json()["error"]["message"]


async def test_a_request_without_a_body_is_sent_to_the_pool(suite: Suite) -> None:
    url = f"http://envoy.{suite.namespace}.svc:8081/v1/models"

    reply = await suite.curl(url, {})

    assert {model["id"] for model in reply.json()["data"]} >= {TARGET}


@pytest.fixture(name="ranks")
async def two_ranks(suite: Suite) -> AsyncIterator[Suite]:
    """Each model server has two ranks, and the pool both of their ports."""
    before = await suite.cluster.api.get("Deployment", MODEL_SERVER, suite.namespace)
    container = before["spec"]["template"]["spec"]["containers"][0]
    two = {**container, "args": [*container["args"], "--data-parallel-size=2"]}
    two["ports"] = [{"containerPort": 8000, "name": "http"}, {"containerPort": 8001}]
    await change(suite, two, [{"number": 8000}, {"number": 8001}])
    yield suite
    await change(suite, container, [{"number": 8000}])


async def change(suite: Suite, container: Object, ports: list[Object]) -> None:
    template = {"spec": {"containers": [container]}}
    api, namespace = suite.cluster.api, suite.namespace
    await api.patch("Deployment", MODEL_SERVER, namespace, {"spec": {"template": template}})
    await suite.cluster.until_available(namespace, MODEL_SERVER, 180)
    await api.patch("InferencePool", MODEL_SERVER, namespace, {"spec": {"targetPorts": ports}})


async def test_both_ranks_of_every_pod_are_endpoints(ranks: Suite) -> None:
    seen = set()

    async def all_six() -> bool:
        reply = await ranks.post("/v1/completions", completion(f"rank {len(seen)} {id(seen)}"))
        if reply.status == 200:
            seen.add((reply.headers["x-inference-pod"], reply.headers["x-inference-port"]))
        return len(seen) >= 6

    await until(all_six, 60, f"seen {seen}")

    assert {port for _, port in seen} == {"8000", "8001"}


METRICS = (
    "inference_objective_request_total",
    "inference_objective_request_error_total",
    "inference_objective_request_duration_seconds",
    "inference_objective_normalized_time_per_output_token_seconds",
    "inference_objective_request_sizes",
    "inference_objective_response_sizes",
    "inference_objective_input_tokens",
    "inference_objective_output_tokens",
    "inference_objective_running_requests",
    "inference_pool_average_kv_cache_utilization",
    "inference_pool_average_queue_size",
    "inference_pool_per_pod_queue_size",
    "inference_pool_ready_pods",
    "inference_extension_info",
)


async def metrics(suite: Suite, token: str) -> tuple[int, str]:
    (pod,) = await suite.cluster.ready(suite.namespace, PICKER)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    reply = await suite.curl(f"http://{pod['status']['podIP']}:9090/metrics", headers)
    return reply.status, reply.body


async def reader_token(suite: Suite) -> str:
    """The token that the cluster put into the secret of `metrics-rbac.yaml`."""
    words = "inference-gateway-sa-metrics-reader-secret"

    async def token() -> str:
        secret = await suite.cluster.api.get("Secret", words, suite.namespace)
        return secret.get("data", {}).get("token", "")

    return base64.b64decode(await until(token, 30, "the secret has no token")).decode()


async def test_metrics_are_there_after_traffic(suite: Suite) -> None:
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    for turn in range(3):
        await suite.post("/v1/completions", completion(f"counted {turn}", **stream))
    await suite.post("/v1/completions", {"model": MODEL})
    token = await reader_token(suite)
    pods = await suite.cluster.pods(suite.namespace, MODEL_SERVER)

    async def missing() -> list[str]:
        status, text = await metrics(suite, token)
        assert status == 200, text
        series = [
            f'inference_pool_per_pod_queue_size{{model_server_pod="{pod["metadata"]["name"]}'
            f'-rank-0",name="{MODEL_SERVER}"}}'
            for pod in pods
        ]
        return [name for name in (*METRICS, *series) if name not in text]

    async def complete() -> bool:
        return not await missing()

    try:
        await until(complete, 30, "metrics are missing")
    except AssertionError:
        assert await missing() == []


async def test_metrics_are_for_those_the_cluster_lets(suite: Suite) -> None:
    assert (await metrics(suite, ""))[0] == 401
    assert (await metrics(suite, "forged"))[0] == 401


async def test_an_objective_gives_a_priority(suite: Suite) -> None:
    token = await reader_token(suite)
    await suite.post("/v1/completions", completion("weighed"))

    _, text = await metrics(suite, token)

    lines = [line for line in text.splitlines() if "inference_objective_request_total{" in line]
    assert any('priority="2"' in line for line in lines), (OBJECTIVE, lines)
