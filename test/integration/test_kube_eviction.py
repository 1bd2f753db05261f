"""A sheddable request in flight is taken back by a whole picker in a cluster, behind real Envoy."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
from support.cluster_pickers import cluster_picker, until
from support.envoy import envoy
from support.gateway import CHAT, SIM_FLAGS, chat_body
from support.kube_api import kube_api
from support.kube_objects import objective, pod, pool
from support.sims import simulators

from epp.cli.envoy_config import config_yaml
from epp.cli.envoy_template import Gateway

pytestmark = pytest.mark.envoy

SLOW = ("--time-scale=1", "--inter-token-latency=100ms", "--time-to-first-token=50ms")
LONG = {"max_tokens": 300, "ignore_eos": True}
"""30 s of answer: nothing ends by itself within a test."""
CONFIG = json.dumps(
    {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "featureGates": ["flowControl"],
        "plugins": [
            {"type": "concurrency-detector", "parameters": {"maxConcurrency": 1}},
            {"type": "queue-scorer"},
        ],
        "flowControl": {
            "enableEviction": True,
            "saturationDetector": {"pluginRef": "concurrency-detector"},
        },
    }
)


@asynccontextmanager
async def cluster(folder, request, response, balancing):
    """A pool of one slow simulator, two objectives, a picker that is ready, and Envoy."""
    async with kube_api() as server, simulators(1, *SIM_FLAGS, *SLOW) as (sim,):
        server.put(pool(ports=(sim.port,)))
        server.put(pod("a", "127.0.0.1"))
        server.put(objective("batch", -1))
        server.put(objective("interactive", 10))
        async with cluster_picker(
            server.kubeconfig(folder), f"--config-text={CONFIG}", "--metrics-endpoint-auth=false"
        ) as picker:
            await until(picker.health)
            gateway = Gateway(
                request=request,
                response=response,
                balancing=balancing,
                pickers=(("127.0.0.1", picker.ports["grpc"]),),
                picker_tls=False,
                endpoints=((sim.host, sim.port),) if balancing == "override-host" else (),
                fail_open=False,
                trust_client_headers=True,
            )
            async with envoy(config_yaml(gateway)) as front, aiohttp.ClientSession() as client:
                yield front, client, picker, sim


@pytest.mark.parametrize(
    ("request_mode", "response_mode", "balancing"),
    [("duplex", "full", "original-dst"), ("buffered", "watch", "override-host")],
)
async def test_batch_work_without_an_answer_gives_way(
    tmp_path, request_mode, response_mode, balancing
):
    async with cluster(tmp_path, request_mode, response_mode, balancing) as stand:
        front, client, picker, sim = stand

        async def chat(named, **fields):
            headers = {"x-llm-d-inference-objective": named}
            body = chat_body(named, **fields)
            async with client.post(front.url + CHAT, json=body, headers=headers) as answer:
                return answer.status, answer.headers.copy(), await answer.read()

        batch = asyncio.create_task(chat("batch", **LONG))
        await sim.until(running=1)
        async with asyncio.timeout(15):
            status, _, _ = await chat("interactive", max_tokens=2)
            evicted, headers, body = await batch
        await sim.until(running=0, waiting=0)
        _, page = await picker.metrics()

    assert status == 200
    assert evicted == 429
    assert headers["x-llm-d-request-dropped-reason"] == "evicted"
    assert int(headers["retry-after"]) >= 1
    assert json.loads(body)["error"]["code"] == "evicted"
    assert revocations(page) == 1


def revocations(page):
    """Of all series of the counter."""
    name = "llm_d_epp_flow_control_revocations_issued_total{"
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))
