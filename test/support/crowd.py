"""Very many pods and objectives as objects of the API, and the picker that follows them.

The pods are bound to a node that nobody runs; their status is written by the test, and their
metrics are one page of one server here. What a request sees of them is asked of the picker itself.

    async with crowd(cluster, image) as many:
        await many.set_ready(PROBE, PODS, yes=False)
        assert not await many.sees(PROBE_ADDRESS)
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
from aiohttp import web
from support.cluster import Cluster, manifest, moved
from support.cluster_api import STRATEGIC, Api, Object, until
from support.ext_proc import request_body, request_headers
from support.pod_sandbox import shell
from support.suite import MODEL_SERVER, PICKER, SINGLE, TESTDATA

from epp.wire.gen.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from epp.wire.session import PROCESS

ROOM = "many-objects"
NODE = "elsewhere"
PODS = 1000
AT_ONCE = 24
PROBE = "probe"
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "p"}]}'
PAGE = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"


def address(number: int) -> str:
    return f"10.246.{number // 250}.{1 + number % 250}"


PROBE_ADDRESS = f"{address(PODS)}:8000"


def pod(name: str) -> Object:
    """A pod that is bound already, to a node that nobody runs."""
    container = {"name": "vllm", "image": "localhost/vllm-sim:dev"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": ROOM, "labels": {"app": MODEL_SERVER}},
        "spec": {
            "nodeName": NODE,
            "containers": [container],
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
        },
    }


def ready(number: int, *, yes: bool = True) -> Object:
    ip = address(number)
    condition = {"type": "Ready", "status": "True" if yes else "False"}
    addresses = {"podIP": ip, "podIPs": [{"ip": ip}]}
    return {"status": {"phase": "Running", **addresses, "conditions": [condition]}}


def objective(number: int) -> Object:
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": f"objective-{number}", "namespace": ROOM},
        "spec": {"priority": number % 100, "poolRef": {"name": MODEL_SERVER}},
    }


async def some_at_once(work: Iterable[Callable[[], Awaitable[object]]]) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(each: Callable[[], Awaitable[object]]) -> None:
        async with turns:
            await each()

    await asyncio.gather(*(one(each) for each in work))


@dataclass
class Crowd:
    """The cluster with its many pods, and the picker that follows them."""

    cluster: Cluster
    picker: Object
    channel: grpc.aio.Channel
    changes: int = 0

    async def set_ready(self, name: str, number: int, *, yes: bool) -> None:
        await write_status(self.cluster.api, name, ready(number, yes=yes))

    @property
    def process(self) -> int:
        """The picker's process as this machine numbers it."""
        runner = self.cluster.node.pod(ROOM, self.picker["metadata"]["name"])
        return runner.containers["epp"].pid

    def cpu(self) -> float:
        """Seconds of a core that the picker has used."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Resident MiB."""
        pages = int(Path(f"/proc/{self.process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def sees(self, wanted: str) -> bool:
        """Whether a request that may go to this address alone goes there."""
        stream = self.channel.stream_stream(
            PROCESS,
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )(timeout=10)
        first = request_headers({"content-type": "application/json"}, hint=[wanted])
        first.protocol_config.request_body_mode = 2
        await stream.write(first)
        await stream.write(request_body(BODY, end=True, hint=[wanted]))
        async for answer in stream:
            if answer.HasField("immediate_response") or answer.HasField("request_body"):
                stream.cancel()
                return answer.HasField("request_body")
        raise AssertionError("the picker does not answer")

    async def change(self, per_second: int) -> None:
        """So many pods a second cease to be ready, or become it again, until cancelled."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for turn in range(1_000_000):
                number = turn * 37 % PODS
                yes = turn // PODS % 2 == 1
                group.create_task(self.set_ready(f"pod-{number}", number, yes=yes))
                self.changes += 1
                await asyncio.sleep(max(0.0, begun + (turn + 1) / per_second - time.monotonic()))

    async def ages(self, seconds: float) -> list[float]:
        """From the API server's answer to a change until a request sees it; two each second."""
        found: list[float] = []
        end = time.monotonic() + seconds
        yes = True
        while time.monotonic() < end or not yes:
            yes = not yes
            await self.set_ready(PROBE, PODS, yes=yes)
            changed = time.monotonic()
            while await self.sees(PROBE_ADDRESS) is not yes:
                assert time.monotonic() < changed + 30, "the picker does not see a change"
            found.append(time.monotonic() - changed)
            await asyncio.sleep(0.5)
        return found


@contextlib.asynccontextmanager
async def metrics_of_all() -> AsyncIterator[None]:
    """Every address of the pods answers here, with one idle page."""
    await shell("ip route add local 10.246.0.0/16 dev lo")
    app = web.Application()

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE)

    app.router.add_get("/metrics", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 8000, backlog=4096).start()
    try:
        yield
    finally:
        await runner.cleanup()
        await shell("ip route del local 10.246.0.0/16 dev lo")


def documents(image: str) -> list[Object]:
    found = moved(manifest(TESTDATA / SINGLE, E2E_NS=ROOM, E2E_IMAGE=image), ROOM)
    for each in found:
        if each["kind"] == "Deployment":
            (container,) = each["spec"]["template"]["spec"]["containers"]
            container["args"][container["args"].index("--v") + 1] = "2"
            # What is measured is the watch, not the scraping.
            container["args"] += ["--secure-serving=false", "--refresh-metrics-interval=10s"]
    return found


@contextlib.asynccontextmanager
async def crowd(cluster: Cluster, image: str) -> AsyncIterator[Crowd]:
    """A thousand ready pods, and a picker that sees the last of them."""
    api = cluster.api
    await cluster.open_namespace(ROOM)
    await cluster.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}])
    names = [*(f"pod-{number}" for number in range(PODS)), PROBE]

    async def make(name: str, number: int) -> None:
        await api.create(pod(name))
        await write_status(api, name, ready(number))

    async with metrics_of_all():
        await some_at_once(partial(make, name, n) for n, name in enumerate(names))
        await cluster.apply(documents(image), ROOM)
        await cluster.until_ready(ROOM, PICKER, 1, 90)
        (picker,) = await cluster.ready(ROOM, PICKER)
        async with grpc.aio.insecure_channel(f"{picker['status']['podIP']}:9002") as channel:
            made = Crowd(cluster, picker, channel)
            await until(partial(made.sees, PROBE_ADDRESS), 60, "the picker sees no pods")
            yield made
        await api.delete("Namespace", ROOM)
        await some_at_once(partial(api.delete, "Pod", name, ROOM, grace=0) for name in names)
        await api.delete("Node", NODE)


async def write_status(api: Api, name: str, change: Object) -> None:
    await api.patch("Pod", name, ROOM, change, of="status", form=STRATEGIC)
