"""Real vLLM and the simulator, started with the same flags on free ports."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from check_sim.cases import MODEL
from check_sim.events import BLOCK, BLOCKS
from check_sim.recording import Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parents[2]
VLLM_START_S = 1800.0
SIM_START_S = 60.0
STOP_S = 60.0
TOPIC = f"kv@127.0.0.1@{MODEL}"

SHARED = (
    *("--served-model-name", MODEL),
    *("--host", "127.0.0.1"),
    *("--max-model-len", "2048"),
    *("--block-size", str(BLOCK)),
    *("--num-gpu-blocks-override", str(BLOCKS)),
    "--enable-prefix-caching",
    *("--prefix-caching-hash-algo", "sha256_cbor"),
    *("--load-format", "dummy"),
    "--enforce-eager",
    *("--dtype", "float32"),
    "--enable-lora",
    *("--max-loras", "2"),
    *("--max-lora-rank", "8"),
    "--enable-prompt-tokens-details",
    "--enable-request-id-headers",
    "--enable-scale-out",
    "--enable-auto-tool-choice",
    *("--tool-call-parser", "hermes"),
)
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENGINE_READY_TIMEOUT_S": str(int(VLLM_START_S)),
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "POD_NAME": "",
    "POD_IP": "",
    "SIM_MODEL": "",
}


class NotStarted(Exception):
    """A server that ended, or was not ready in time; the message tells where its output is."""


@dataclass(slots=True)
class Ports:
    """Three free ports: HTTP, events, replay."""

    http: int
    events: int
    replay: int

    @classmethod
    def free(cls) -> Ports:
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        numbers = [one.getsockname()[1] for one in held]
        for one in held:
            one.close()
        return cls(*numbers)

    @property
    def place(self) -> Place:
        here = "127.0.0.1"
        return Place(
            f"http://{here}:{self.http}",
            f"tcp://{here}:{self.events}",
            f"tcp://{here}:{self.replay}",
        )

    @property
    def flags(self) -> tuple[str, ...]:
        config = {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": f"tcp://*:{self.events}",
            "replay_endpoint": f"tcp://*:{self.replay}",
            "topic": TOPIC,
        }
        return ("--port", str(self.http), "--kv-events-config", json.dumps(config))


@asynccontextmanager
async def real_vllm(
    python: Path, model: Path, log: Path, *, shared: tuple[str, ...] = SHARED
) -> AsyncIterator[Place]:
    """`vllm serve` of the interpreter's environment, on the tiny model."""
    ports = Ports.free()
    command = (str(python.parent / "vllm"), "serve", str(model), *shared, *ports.flags)
    async with _running(command, ports.place, log, VLLM_START_S) as place:
        yield place


@asynccontextmanager
async def simulator(version: str, model: Path, log: Path) -> AsyncIterator[Place]:
    """`vllm-sim` with the same flags, speaking as that version does."""
    ports = Ports.free()
    command = (sys.executable, "-m", "vllm_sim", "--model", str(model))
    flags = ("--vllm-version", version, "--output-law", "exact", *SHARED, *ports.flags)
    async with _running((*command, *flags), ports.place, log, SIM_START_S) as place:
        yield place


@asynccontextmanager
async def _running(
    command: tuple[str, ...], place: Place, log: Path, seconds: float
) -> AsyncIterator[Place]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, stdout=output, stderr=output
        )
        try:
            await _healthy(process, place, log, seconds)
            yield place
        finally:
            await _stop(process)


async def _healthy(
    process: asyncio.subprocess.Process, place: Place, log: Path, seconds: float
) -> None:
    try:
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
            while not await _up(session, place.url):
                if process.returncode is not None:
                    raise NotStarted(f"it ended with {process.returncode}; see {log}")
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise NotStarted(f"not ready within {seconds:g} s; see {log}") from None


async def _up(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/health") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def version_of(session: aiohttp.ClientSession, url: str) -> str:
    """The numbers of the server's version, without a local part such as +cpu."""
    async with session.get(f"{url}/version") as answer:
        return str((await answer.json())["version"]).partition("+")[0]
