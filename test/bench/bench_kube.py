"""CPU of following a cluster: one event, one pool of pods, and a whole picker beside 1,000 pods.

Run: python test/bench/bench_kube.py [seconds]. The API server is a small one inside this process;
what is printed of the picker is the CPU of its own process. BENCH_JSON=file writes the numbers.
"""

import asyncio
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import msgspec  # noqa: E402
from support.cluster_pickers import cluster_picker, until  # noqa: E402
from support.kube_api import kube_api  # noqa: E402
from support.kube_objects import objective, pod, pool  # noqa: E402

from epp.kube.endpoints import PodEndpoints  # noqa: E402
from epp.kube.objects import Pod  # noqa: E402
from epp.kube.reflector import Reflector  # noqa: E402

PODS = 1000
OBJECTIVES = 10_000
CHANGES = 100


def address(number):
    return f"10.{number // 62500}.{number // 250 % 250}.{number % 250}"


def large_pod():
    """A pod with as much around the read fields as real ones have: 4.6 KB."""
    item = pod("vllm-llama3-8b-instruct-6d4cf56db6-x7k2p", resourceVersion="123456")
    container = {
        "image": "x" * 60,
        "args": [f"--a={n}" for n in range(20)],
        "env": [{"name": f"E{n}", "value": "v" * 20} for n in range(20)],
    }
    item["spec"] = {"containers": [container, container]}
    fields = {f"f:a{n}": {"f:b": {}} for n in range(60)}
    item["metadata"]["managedFields"] = [{"manager": "kubelet", "fieldsV1": fields}]
    return item


def microseconds(work: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times * 1e6


def in_memory() -> dict[str, float]:
    decode = msgspec.json.Decoder(Pod).decode
    text = json.dumps(large_pod()).encode()
    line = json.dumps({"type": "MODIFIED", "object": large_pod()}).encode()
    reflector = Reflector(decode, random.Random(1))
    reflector.page(b'{"metadata": {"resourceVersion": "1"}, "items": []}', 0.0)
    reflector.next(0.0)
    pods = [decode(json.dumps(pod(f"p{n}", address(n)))) for n in range(PODS)]
    made = PodEndpoints((8000,))

    def one_changed() -> None:
        pods[3] = decode(text)
        made.of(pods)

    return {
        "a pod decoded": microseconds(lambda: decode(text), 5000),
        "an event of a pod": microseconds(lambda: reflector.line(line, 0.0), 5000),
        f"endpoints of {PODS} pods": microseconds(lambda: PodEndpoints((8000,)).of(pods), 20),
        f"the same, one of {PODS} changed": microseconds(one_changed, 200),
    }


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def beside_a_cluster(seconds: float) -> dict[str, float]:
    """Shares of a core: while nothing changes, and at 100 changed pods a second."""
    async with kube_api() as server:
        server.put(pool())
        for number in range(PODS):
            server.put(pod(f"p{number}", address(number), ready=False))
        for number in range(OBJECTIVES):
            server.put(objective(f"o{number}", number % 5))
        server.forbidden = {("patch", "inferenceobjectives/status")}
        with tempfile.TemporaryDirectory() as folder:
            config = server.kubeconfig(Path(folder))
            began = time.monotonic()
            async with cluster_picker(config, "--metrics-endpoint-auth=false") as picker:
                await until(picker.health, 60)
                numbers = {"start to ready, seconds": time.monotonic() - began}
                await asyncio.sleep(5)
                pid = picker.process.pid
                numbers["idle core"] = await share(pid, asyncio.sleep(seconds))
                numbers["busy core"] = await share(pid, change(server, seconds))
        return numbers


async def share(pid: int, work) -> float:
    before, began = cpu_seconds(pid), time.monotonic()
    await work
    return (cpu_seconds(pid) - before) / (time.monotonic() - began)


async def change(server, seconds: float) -> None:
    """Labels change: the pods stay what they are, their endpoints are described anew."""
    chance = random.Random(1)
    for turn in range(int(seconds * 10)):
        for _ in range(CHANGES // 10):
            number = chance.randrange(PODS)
            labels = {"turn": str(turn)}
            server.put(pod(f"p{number}", address(number), ready=False, labels=labels))
        await asyncio.sleep(0.1)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    print(f"CPython {platform.python_version()}, {platform.python_compiler()}")
    numbers = in_memory()
    for name, value in numbers.items():
        print(f"{name:48} {value:10.1f} us")
    cluster = asyncio.run(beside_a_cluster(seconds))
    print(f"a picker beside {PODS} pods and {OBJECTIVES} objectives, {CHANGES} pods changed per s:")
    for name, value in cluster.items():
        print(f"{name:48} {value:10.3f}")
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps({"kube": {**numbers, **cluster}}))


if __name__ == "__main__":
    main()
