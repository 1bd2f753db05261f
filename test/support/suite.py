"""The seed's deployment in a namespace: three model servers, a pool, pickers, Envoy, a client.

Names and manifests are those that platform teams know: `vllm-llama3-8b-instruct`, the picker
`vllm-llama3-8b-instruct-epp`, `envoy` on 8081, the pod `curl` that sends requests.
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from support.cluster import ROOT, Cluster, manifest
from support.cluster_api import Object

MODEL_SERVER = "vllm-llama3-8b-instruct"
PICKER = "vllm-llama3-8b-instruct-epp"
TESTDATA = ROOT / "test" / "testdata"
SINGLE = "inferencepool-e2e.yaml"
ELECTED = "inferencepool-leader-election-e2e.yaml"
OBJECTIVE = "inferenceobjective-sample"
CURL_SECONDS = 30
READY_SECONDS = 180.0
MODEL = "food-review"
TARGET = "food-review-1"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client got."""

    status: int
    headers: Mapping[str, str]
    body: str

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Suite:
    """The deployment, and ways to use and disturb it."""

    cluster: Cluster
    namespace: str
    image: str
    model_servers: Path
    elected: bool

    async def deploy(self) -> None:
        """In the order in which a person would; model servers last, since they are slow."""
        for name in (ELECTED if self.elected else SINGLE, "client.yaml", "envoy.yaml"):
            await self.cluster.apply(self.manifest(name), self.namespace)
        await self.cluster.apply(self.manifest("metrics-rbac.yaml"), self.namespace)
        await self.cluster.apply(manifest(self.model_servers), self.namespace)
        await self.apply_objective(OBJECTIVE, 2)
        await self.cluster.until_available(self.namespace, MODEL_SERVER, 600)
        await self.until_picker()
        await self.cluster.until_available(self.namespace, "envoy", READY_SECONDS)
        await self.cluster.until_ready_pod(self.namespace, "curl", READY_SECONDS)

    def manifest(self, name: str) -> list[Object]:
        values = {"E2E_NS": self.namespace, "E2E_IMAGE": self.image}
        return manifest(TESTDATA / name, **values)

    async def until_picker(self, seconds: float = READY_SECONDS) -> None:
        """One picker is ready: the only one, or the one that leads."""
        try:
            await self.cluster.until_ready(self.namespace, PICKER, 1, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.cluster.tell(self.namespace)}") from error

    async def picker(self) -> str:
        """The name of the ready picker."""
        (pod,) = await self.cluster.ready(self.namespace, PICKER)
        return str(pod["metadata"]["name"])

    async def apply_objective(self, name: str, priority: int) -> None:
        await self.cluster.apply([objective(name, priority)], self.namespace)

    async def scale(self, name: str, replicas: int) -> None:
        change = {"spec": {"replicas": replicas}}
        await self.cluster.api.patch("Deployment", name, self.namespace, change, of="scale")

    async def post(
        self, path: str, body: Object, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """A request from the client pod through the gateway, as `curl` sends it."""
        url = f"http://envoy.{self.namespace}.svc:8081{path}"
        return await self.curl(url, {**CONTROL, **(headers or {})}, json.dumps(body))

    async def curl(self, url: str, headers: Mapping[str, str], body: str | None = None) -> Reply:
        words = ["curl", "-i", "-s", "-S", "-m", str(CURL_SECONDS), url]
        for name, value in headers.items():
            words += ["-H", f"{name}: {value}"]
        if body is not None:
            words += ["-X", "POST", "-d", body]
        code, said, failure = await self.cluster.run(self.namespace, "curl", words)
        assert code == 0, f"curl {url}: exit code {code}: {failure}"
        return read_reply(said)

    async def gateway(self) -> str:
        """Where a client of this process reaches the gateway."""
        return f"http://{await self.cluster.address(self.namespace, 'envoy')}:8081"


# What the seed's requests carry: a priority by name, and the model that shall serve.
CONTROL = {
    "Content-Type": "application/json",
    "Cache-Control": "no-cache",
    "Connection": "close",
    "x-gateway-inference-objective": OBJECTIVE,
    "x-gateway-model-name-rewrite": TARGET,
}


def objective(name: str, priority: int, pool: str = MODEL_SERVER) -> Object:
    return {
        "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": name},
        "spec": {"priority": priority, "poolRef": {"name": pool}},
    }


def read_reply(text: str) -> Reply:
    """Status, headers and body of what `curl -i` printed."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, *rest = head.split("\n")
    pairs = (line.partition(":") for line in rest)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Reply(int(first.split()[1]), headers, body)


def completion(nonce: str, **fields: Any) -> Object:
    """A prompt that no cache has seen."""
    prompt = f"{nonce} Write as if you were a critic: San Francisco"
    return {"model": MODEL, "prompt": prompt, "max_tokens": 100, "temperature": 0} | fields


@dataclass
class Traffic:
    """What clients saw while a test did something to the cluster."""

    answers: list[tuple[float, int, str]] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[int]:
        return Counter(status for _, status, _ in self.answers)

    @property
    def pods(self) -> Counter[str]:
        return Counter(pod for _, status, pod in self.answers if status == 200)

    @property
    def lost(self) -> list[object]:
        """Every request that got no 200."""
        bad = [(at, status) for at, status, _ in self.answers if status != 200]
        return [*bad, *self.failures]

    def since(self, moment: float) -> Counter[str]:
        """Good answers by pod that came after a moment of the monotonic clock."""
        late = (pod for at, status, pod in self.answers if status == 200 and at > moment)
        return Counter(late)

    @property
    def gap(self) -> float:
        """The longest time between two good answers, in seconds."""
        times = sorted(at for at, status, _ in self.answers if status == 200)
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)

    def told(self) -> str:
        return f"{dict(self.statuses)}, longest gap {self.gap:.2f} s, lost {self.lost[:6]}"


@asynccontextmanager
async def traffic(
    url: str, *, clients: int = 6, pause: float = 0.05, tokens: int = 8, model: str = MODEL
) -> AsyncIterator[Traffic]:
    """So many clients, each asking again and again, until the block ends."""
    asked = {"max_tokens": tokens, "model": model}
    seen = Traffic()
    timeout = aiohttp.ClientTimeout(total=CURL_SECONDS)
    async with aiohttp.ClientSession(url, timeout=timeout) as http:
        asking = [asyncio.create_task(ask(http, seen, n, pause, asked)) for n in range(clients)]
        try:
            yield seen
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


KEPT_ALIVE = {name: value for name, value in CONTROL.items() if name != "Connection"}


async def ask(
    http: aiohttp.ClientSession, seen: Traffic, client: int, pause: float, asked: Object
) -> None:
    for turn in range(1_000_000):
        body = completion(f"{client}-{turn}", **asked)
        try:
            async with http.post("/v1/completions", json=body, headers=KEPT_ALIVE) as answer:
                await answer.read()
                pod = answer.headers.get("x-inference-pod", "")
                seen.answers.append((time.monotonic(), answer.status, pod))
        except (aiohttp.ClientError, TimeoutError) as error:
            seen.failures.append((time.monotonic(), repr(error)))
        await asyncio.sleep(pause)
