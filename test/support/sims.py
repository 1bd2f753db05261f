"""Simulators for tests: real processes on free ports, or one inside the test's own loop.

async with simulators(3, "--model", "m", "--time-to-first-token=5ms") as sims:
    sims[0].address      # "127.0.0.1:40001"
    await sims[0].faults(error_rate=1.0)
    await sims[0].state()

async with simulator_here(model="m") as sim:     # cheaper: no process, same doors
    ...
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from vllm_sim.options import SimOptions
from vllm_sim.server.app import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
START_S = 60.0
STOP_S = 20.0


class Doors:
    """The doors that a process and an in-process simulator share."""

    host: str
    port: int
    session: aiohttp.ClientSession

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def name(self) -> str:
        """What the simulator puts into x-inference-pod."""
        return f"vllm-sim-{self.port}"

    async def state(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/sim/state") as answer:
            return await answer.json()

    async def faults(self, **fields: Any) -> dict[str, Any]:
        """Merges the fields into the current faults; `clear=True` starts from none."""
        async with self.session.post(f"{self.url}/sim/faults", json=fields) as answer:
            body = await answer.json()
            assert answer.status == 200, body
            return body

    async def metrics(self) -> str:
        async with self.session.get(f"{self.url}/metrics") as answer:
            return await answer.text()

    async def until(self, seconds: float = 45.0, **wanted: Any) -> dict[str, Any]:
        """The first state whose fields equal the wanted ones; fails after so many seconds."""
        end = asyncio.get_running_loop().time() + seconds
        while True:
            state = await self.state()
            if all(state[name] == value for name, value in wanted.items()):
                return state
            shown = {name: state[name] for name in wanted}
            assert asyncio.get_running_loop().time() < end, f"still {shown}, wanted {wanted}"
            await asyncio.sleep(0.02)


class Simulator(Doors):
    """One `python -m vllm_sim` process."""

    def __init__(self, flags: tuple[str, ...], session: aiohttp.ClientSession) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.session = session
        self._flags = flags
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The number of the running process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Starts the process and waits until it is ready."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "vllm_sim", "--host", self.host, *self._flags, f"--port={self.port}"),
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONHASHSEED": "0",
                "POD_NAME": "",
                "POD_IP": "",
                "SIM_MODEL": "",
            },
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_S)
        assert line, f"vllm_sim {' '.join(self._flags)} did not start"
        self.port = json.loads(line)["port"]

    async def kill(self) -> None:
        """SIGKILL: connections are cut, the port is closed."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM: drains; the exit code."""
        return await self._end(signal.SIGTERM)

    async def restart(self) -> None:
        """Kills the process if it runs and starts a new one on the same port."""
        await self.kill()
        await self.start()

    async def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        try:
            await asyncio.wait_for(process.communicate(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.communicate()
        return process.returncode or 0


@asynccontextmanager
async def simulators(count: int, *flags: str) -> AsyncIterator[list[Simulator]]:
    """So many processes with the same flags, ready; killed at the end."""
    async with aiohttp.ClientSession() as session:
        sims = [Simulator(flags, session) for _ in range(count)]
        try:
            await asyncio.gather(*(sim.start() for sim in sims))
            yield sims
        finally:
            await asyncio.gather(*(sim.kill() for sim in sims))


class SimulatorHere(Doors):
    """A simulator in the test's own event loop."""

    def __init__(self, server: Server, host: str, session: aiohttp.ClientSession) -> None:
        self.host = host
        self.port = server.port
        self.server = server
        self.session = session


@asynccontextmanager
async def simulator_here(**options: Any) -> AsyncIterator[SimulatorHere]:
    """One simulator without a process; `options` are the fields of `SimOptions`."""
    server = Server(SimOptions(**{"port": 0, "host": "127.0.0.1", **options}))
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield SimulatorHere(server, "127.0.0.1", session)
    finally:
        await server.stop()
