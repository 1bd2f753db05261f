"""A real picker, `python -m epp run`, as a process of its own, for tests.

`EPP_TEST_WIRE=grpcio` runs it on the other wire.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WIRE = os.environ.get("EPP_TEST_WIRE", "http2")
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
PORT_FLAGS = {
    "grpc": "--grpc-port",
    "health": "--grpc-health-port",
    "metrics": "--metrics-port",
    "debug": "--debug-port",
}


class PickerFailed(RuntimeError):
    """The picker did not become ready; what it said is in the message."""


@dataclass
class Picker:
    """A picker's process. `ports` by the names of its ready line; kept over restarts."""

    args: Sequence[str]
    log: Path
    ports: dict[str, int] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where its ext_proc service listens."""
        return "127.0.0.1", self.ports["grpc"]

    def url(self, port: str, path: str = "") -> str:
        """A page of its HTTP listeners: `metrics` or `debug`."""
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log_text(self) -> str:
        """What it has logged so far, over all its lives."""
        return self.log.read_text(errors="replace")

    async def start(self) -> None:
        """Run it and wait for its ready line. Raises `PickerFailed`."""
        with self.log.open("ab") as sink:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "epp", "run", *self.args, *self._port_args()),
                stdout=asyncio.subprocess.PIPE,
                stderr=sink,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        try:
            self.ports = await asyncio.wait_for(self._ready(), READY_SECONDS)
        except (TimeoutError, PickerFailed) as error:
            await self.kill()
            raise PickerFailed(f"the picker is not ready:\n{self.log_text()[-4000:]}") from error

    async def kill(self) -> None:
        """SIGKILL: it gets no chance to say goodbye."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """SIGTERM, and the exit code once it has drained."""
        return await self._end(signal.SIGTERM)

    async def restart(self) -> None:
        """End it if it runs, and start it again on the same ports."""
        await self.terminate()
        await self.start()

    def _port_args(self) -> list[str]:
        ports = {name: self.ports.get(name, 0) for name in PORT_FLAGS}
        return [
            f"{PORT_FLAGS[name]}={port}"
            for name, port in ports.items()
            if not any(arg.startswith(f"{PORT_FLAGS[name]}=") for arg in self.args)
        ]

    async def _ready(self) -> dict[str, int]:
        assert self.process is not None
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.startswith(b"{") and json.loads(line).get("ready"):
                said = json.loads(line)
                return {name: said[name] for name in PORT_FLAGS if name in said}
        raise PickerFailed

    async def _end(self, how: signal.Signals) -> int:
        """Also drains its output, so that nothing of it is left behind."""
        process, self.process = self.process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(how)
        try:
            await asyncio.wait_for(process.communicate(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.communicate()
        assert process.returncode is not None
        return process.returncode


@asynccontextmanager
async def picker(*args: str) -> AsyncIterator[Picker]:
    """A ready picker run with `args` on free ports of the loopback; killed on the way out.

    An error inside the block carries the end of the picker's log.
    """
    with tempfile.TemporaryDirectory() as folder:
        hosts = [f"--{each}-host=127.0.0.1" for each in ("grpc", "metrics")]
        running = Picker((*hosts, f"--wire={WIRE}", *args), Path(folder) / "picker.log")
        try:
            await running.start()
            yield running
        except Exception as error:
            error.add_note(f"the picker's log ends:\n{running.log_text()[-4000:]}")
            raise
        finally:
            await running.kill()
