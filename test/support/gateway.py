"""The whole on one machine, for tests: real Envoy, a real picker, simulators, a client.

async with standing(Variant(request="duplex", response="full")) as house:
    answer = await house.chat("hello")
    await house.comes_to_rest()
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from support.envoy import Envoy, envoy
from support.picker import Picker, picker
from support.sims import Simulator, simulators

from epp.cli.envoy_config import config_yaml
from epp.cli.envoy_template import Gateway

MODEL = "test-model"
WIRE = os.environ.get("EPP_TEST_WIRE", "http2")
REST_SECONDS = 45.0
SIM_FLAGS = (f"--model={MODEL}", "--max-model-len=1000000", "--seed=7", "--time-scale=20")


@dataclass(frozen=True)
class Variant:
    """How Envoy and the picker speak, and what differs in a test."""

    request: str = "buffered"
    response: str = "watch"
    lb: str = "override-host"
    tls: bool = True
    wire: str = WIRE
    fail_open: bool | None = None
    replicas: int = 3
    picker_flags: tuple[str, ...] = ()
    sim_flags: tuple[str, ...] = ()
    trust: bool = False

    def __str__(self) -> str:
        return f"{self.request}-{self.response}-{self.lb}"

    def but(self, **changes: Any) -> "Variant":
        return replace(self, **changes)


@dataclass
class Answer:
    """What the client got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def pod(self) -> str:
        return self.headers.get("x-inference-pod", "")


@dataclass
class House:
    """Everything that runs."""

    variant: Variant
    sims: list[Simulator]
    picker: Picker
    envoy: Envoy
    client: aiohttp.ClientSession
    folder: Path

    async def send(self, method: str, path: str, **options: Any) -> Answer:
        async with self.client.request(method, self.envoy.url + path, **options) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, headers, await response.read())

    async def chat(self, content: str = "hello", **fields: Any) -> Answer:
        """One chat; `headers` and `patience` (seconds) are the client's, the rest is the body's."""
        options: dict[str, Any] = {"headers": fields.pop("headers", None)}
        if patience := fields.pop("patience", None):
            options["timeout"] = aiohttp.ClientTimeout(total=patience)
        return await self.send("POST", CHAT, json=chat_body(content, **fields), **options)

    def sim_of(self, pod: str) -> Simulator:
        return next(sim for sim in self.sims if sim.name == pod)

    async def debug(self, page: str) -> dict[str, Any]:
        async with self.client.get(self.picker.url("debug", f"/debug/{page}")) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def metrics(self) -> str:
        async with self.client.get(self.picker.url("metrics", "/metrics")) as response:
            return await response.text()

    async def counters(self) -> dict[str, float]:
        """What must be zero when nothing is going on."""
        requests = await self.debug("requests")
        endpoints = (await self.debug("endpoints"))["endpoints"]
        page = await self.metrics()
        return {
            "open": requests["open_count"],
            "queued": requests["queued_count"],
            "held": requests["held_bytes"],
            "inflight": sum(row["inflight_requests"] for row in endpoints),
            "tokens": sum(row["inflight_tokens"] for row in endpoints),
            "running": gauge(page, "llm_d_epp_request_running"),
            "streams": gauge(page, "llm_d_epp_extproc_streams_inflight"),
        }

    async def comes_to_rest(self, seconds: float = REST_SECONDS) -> None:
        """Fails unless every counter is at zero within so many seconds."""
        end = asyncio.get_running_loop().time() + seconds
        while any((left := await self.counters()).values()):
            assert asyncio.get_running_loop().time() < end, f"not at zero: {left}"
            await asyncio.sleep(0.05)


CHAT = "/v1/chat/completions"


def chat_body(content: str = "hello", **fields: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 4,
        **fields,
    }


def gauge(page: str, name: str) -> float:
    """The sum of a family's samples on a metrics page; fails if the family is not there."""
    rows = [line for line in page.splitlines() if line.startswith((name + "{", name + " "))]
    assert rows or f"# TYPE {name} " in page, f"no {name} on the page"
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


@asynccontextmanager
async def standing(variant: Variant) -> AsyncIterator[House]:
    """Simulators, picker, Envoy and a client, all ready; ended in the other order."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with simulators(variant.replicas, *SIM_FLAGS, *variant.sim_flags) as sims:
            endpoints = write_endpoints(folder, sims)
            flags = (f"--endpoints={endpoints}", f"--wire={variant.wire}", "--response-headers")
            secure = () if variant.tls else ("--secure-serving=false",)
            async with (
                picker(*flags, *secure, *variant.picker_flags) as running,
                envoy(config_yaml(gateway_of(variant, running, sims))) as front,
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=60), connector=aiohttp.TCPConnector(limit=0)
                ) as client,
            ):
                yield House(variant, sims, running, front, client, folder)


def write_endpoints(folder: Path, sims: list[Simulator]) -> Path:
    path = folder / "endpoints.yaml"
    listed = [
        {"name": f"vllm-{i}", "address": sim.host, "port": str(sim.port)}
        for i, sim in enumerate(sims)
    ]
    path.write_text(yaml.safe_dump({"endpoints": listed}))
    return path


def gateway_of(variant: Variant, running: Picker, sims: list[Simulator]) -> Gateway:
    pool = tuple((sim.host, sim.port) for sim in sims)
    fail_open = variant.lb == "override-host" if variant.fail_open is None else variant.fail_open
    return Gateway(
        request=variant.request,
        response=variant.response,
        balancing=variant.lb,
        pickers=(running.address,),
        picker_tls=variant.tls,
        endpoints=pool if variant.lb == "override-host" else (),
        fail_open=fail_open,
        trust_client_headers=variant.trust,
    )
