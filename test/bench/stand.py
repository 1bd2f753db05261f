"""What is measured: a server's process behind Envoy, with what its CPU and memory are read from."""

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import yaml  # noqa: E402
from load import Client  # noqa: E402
from support.envoy import Envoy, envoy  # noqa: E402
from support.picker import Picker, picker  # noqa: E402

from epp.cli.envoy_config import config  # noqa: E402
from epp.cli.envoy_template import Gateway  # noqa: E402
from epp.kvevents.settings import PORT_LABEL  # noqa: E402


@dataclass(frozen=True)
class Way:
    """How Envoy and what it asks speak."""

    request: str = "duplex"
    response: str = "full"
    tls: bool = True
    server: str = "http2"
    """`http2`, `grpcio`, `bare` (the http2 wire with a constant answer) or `none` (no picker)."""

    def __str__(self) -> str:
        tls = "TLS" if self.tls else "clear"
        return f"{self.request}+{self.response}, {tls}, {self.server}"


@dataclass
class Stand:
    """A server, Envoy before it, and a client before that."""

    pid: int
    port: int
    envoy: Envoy | None
    client: Client
    picker: Picker | None
    background: float = 0.0
    """Cores used while nobody asks: scraping, timers."""

    async def page(self) -> str:
        assert self.picker is not None
        return await self.text("metrics", "/metrics")

    async def text(self, port: str, path: str) -> str:
        assert self.picker is not None
        assert self.envoy is not None
        async with self.envoy.http.get(self.picker.url(port, path)) as answer:
            return await answer.text()

    async def debug(self, name: str) -> Any:
        return json.loads(await self.text("debug", f"/debug/{name}"))


def cpu_seconds(pid: int) -> float:
    """CPU of all threads of a process, to the nanosecond where the kernel tells."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def endpoints_file(folder: Path, ports: Sequence[int], events: Sequence[int] = ()) -> Path:
    """`events`: where each publishes KV events, if they do."""
    path = folder / "endpoints.yaml"
    rows: list[dict[str, Any]] = [
        {"name": f"vllm-{p}", "address": "127.0.0.1", "port": str(p)} for p in ports
    ]
    for row, port in zip(rows, events, strict=False):
        row["labels"] = {PORT_LABEL: str(port)}
    path.write_text(yaml.safe_dump({"endpoints": rows}))
    return path


def envoy_config(way: Way, address: tuple[str, int], ports: Sequence[int]) -> str:
    """Envoy as `epp envoy-config` sets it up; without a picker, the same without its filter."""
    tree = config(
        Gateway(
            request="buffered" if way.request == "buffered" else "duplex",
            response=way.response,  # type: ignore[arg-type]
            balancing="override-host",
            pickers=(address,),
            picker_tls=way.tls,
            endpoints=tuple(("127.0.0.1", port) for port in ports),
            fail_open=False,
        )
    )
    if way.server == "none":
        for chain in tree["static_resources"]["listeners"][0]["filter_chains"]:
            manager = chain["filters"][0]["typed_config"]
            manager["http_filters"] = [
                each for each in manager["http_filters"] if "ext_proc" not in each["name"]
            ]
    return yaml.safe_dump(tree)


@asynccontextmanager
async def standing(
    way: Way, ports: Sequence[int], *flags: str, events: Sequence[int] = ()
) -> AsyncIterator[Stand]:
    """Everything ready, three connections open."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running: Picker | None = None
        if way.server == "none":
            pid, address = 0, ("127.0.0.1", 1)
        elif way.server == "bare":
            pid, port = await stack.enter_async_context(bare(way.tls, ports))
            address = "127.0.0.1", port
        else:
            listed = endpoints_file(folder, ports, events)
            secure = () if way.tls else ("--secure-serving=false",)
            running = await stack.enter_async_context(
                picker(f"--endpoints={listed}", f"--wire={way.server}", *secure, *flags)
            )
            pid, address = running.pid, running.address
        front = await stack.enter_async_context(envoy(envoy_config(way, address, ports)))
        client = Client(front.address)
        stack.callback(client.close)
        await client.open(3)
        yield Stand(pid or front.process.pid, address[1], front, client, running)


@asynccontextmanager
async def bare(tls: bool, ports: Sequence[int]) -> AsyncIterator[tuple[int, int]]:
    """The wire without a picker: `(pid, port)` of a server that sends all to one place."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(
        target=serve_bare, args=(theirs, tls, f"127.0.0.1:{ports[0]}"), daemon=True
    )
    child.start()
    try:
        port = await asyncio.to_thread(ours.recv)
        assert child.pid is not None
        yield child.pid, port
    finally:
        ours.send("end")
        await asyncio.to_thread(child.join, 5)
        child.kill()


def serve_bare(pipe: Connection, tls: bool, destination: str) -> None:
    import uvloop

    uvloop.run(_serve_bare(pipe, tls, destination))


async def _serve_bare(pipe: Connection, tls: bool, destination: str) -> None:
    import datetime as dt

    from support.ext_proc import RecordingTicket

    from epp.domain.headers import NO_CHANGES
    from epp.wire.budget import ByteBudget
    from epp.wire.session import PROCESS, Process
    from epp.wire.sockets import Listening, Server
    from epp.wire.tls import SelfSigned, TlsContexts, self_signed

    class Ticket(RecordingTicket):
        """Constant: nothing is noted, nothing is changed."""

        def response_started(self, head: object) -> object:
            return NO_CHANGES

        def response_chunk(self, data: bytes, end: bool) -> bytes:
            return data

        def ended(self, ending: object) -> None:
            pass

    class Path:
        ticket = Ticket(destination)

        def decide(self, intake: object) -> Ticket:
            return self.ticket

    process = Process(Path(), budget=ByteBudget(1 << 30))  # type: ignore[arg-type]
    pairs = SelfSigned(self_signed(dt.datetime.now(dt.UTC)))
    contexts = TlsContexts(pairs) if tls else None
    server = Server({PROCESS: process}, print, tls=contexts)
    pipe.send(await server.listen(Listening()))
    done = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), done.set)
    await done.wait()
    await server.close()


async def share_of_core(pid: int, seconds: float) -> float:
    """CPU of a process over wall time."""
    cpu, began = cpu_seconds(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    return (cpu_seconds(pid) - cpu) / (time.perf_counter() - began)


def python_build() -> str:
    """The interpreter, and how it was compiled as far as it says so itself."""
    import sysconfig

    said = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    marks = [name for name, flag in FLAGS.items() if flag in said]
    if not marks and "--with-dbmliborder=bdb:gdbm" in said:
        # Debian's rules call the profile-guided build by make target, not by this flag.
        marks = ["Debian's package: PGO and LTO"]
    version = sys.version.split()[0]
    return f"CPython {version}, {' and '.join(marks) or 'neither PGO nor LTO'}"


FLAGS = {"PGO": "--enable-optimizations", "LTO": "--with-lto"}


def machine() -> str:
    """The processor, as far as the kernel says it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{os.cpu_count()} x {line.partition(':')[2].strip()}"
    return f"{os.cpu_count()} processors"


def plain_python_ms() -> float:
    """A fixed piece of pure Python, the best of seven: tells builds and machines apart."""

    def work() -> int:
        total, seen = 0, {}
        for number in range(100_000):
            seen[number & 1023] = number
            total += len(seen) ^ number
        return total

    rounds = []
    for _ in range(7):
        began = time.process_time()
        work()
        rounds.append(time.process_time() - began)
    return min(rounds) * 1e3
