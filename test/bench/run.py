"""What a request costs, in one run: the picker's CPU behind real Envoy, against its budgets.

    python test/bench/run.py [--quick] [--json FILE] [--write PAGE] [--beside FILE] [--only WHAT]

`make bench` calls it. `--quick` takes under a minute, is coarse, leaves out the long parts and is
for seeing that it works. `--beside` shows the figures of another run (of another Python build,
say) in a column of their own.
"""

import argparse
import asyncio
import datetime as dt
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import everything  # noqa: E402
import inside  # noqa: E402
import report  # noqa: E402
import uvloop  # noqa: E402
from backend import model_servers  # noqa: E402
from costs import Bench, beside_scraping, replayed  # noqa: E402
from driver import Script  # noqa: E402
from load import large, post, small, streamed  # noqa: E402
from report import Report  # noqa: E402
from stand import (  # noqa: E402
    Stand,
    Way,
    endpoints_file,
    machine,
    memory_mb,
    plain_python_ms,
    python_build,
    share_of_core,
    standing,
)

RATE = 300
AT_ONCE = 16
CHUNKS = 200
MODES = (
    ("duplex", "full"),
    ("duplex", "watch"),
    ("buffered", "watch"),
    ("buffered", "full"),
    ("buffered", "forget"),
)
SMALL = f"Small chat request, {RATE} a second"
CEILING = f"Small chat request, {AT_ONCE} at once, replayed as Envoy sends them"
LARGE = "220 KB prompt, 25 a second"
LARGE_CEILING = "220 KB prompt, 2 at once, replayed as Envoy sends them"
STREAM = "Streamed answer"
LATENCY = "Added latency, 100 requests a second"
POOL = "A hundred endpoints"
PATH = "In the path, no socket"
PROCESS = "The process"
BUDGETS = {
    ("duplex", "full"): (300.0, 200.0),
    ("buffered", "watch"): (220.0, 130.0),
}


async def small_requests(bench: Bench, stand: Stand, way: Way) -> None:
    budget, aim = BUDGETS.get((way.request, way.response), (None, None))
    whole = way.server == "http2" and way.tls
    client = stand.client
    await client.paced(small, RATE, 0.5 if bench.quick else 1.0)
    cost = await bench.cost(stand, lambda: client.paced(small, RATE, bench.stretch))
    held = {"budget": budget, "aim": aim} if whole else {}
    bench.note(SMALL, str(way), cost.added, "us", note=beside_scraping(cost), **held)
    await replayed(bench, stand, way, CEILING, Script(way.request, way.response), AT_ONCE, held)


async def large_prompts(bench: Bench, stand: Stand, way: Way) -> None:
    make, client = large(), stand.client
    budget = 1500.0 if way.server == "http2" and way.tls else None
    script = Script(way.request, way.response, make)
    await replayed(bench, stand, way, LARGE_CEILING, script, 2, {"budget": budget})
    await client.paced(make, 25, 1.0)
    cost = await bench.cost(stand, lambda: client.paced(make, 25, bench.stretch))
    bench.note(LARGE, str(way), cost.added, "us", budget=budget, note=beside_scraping(cost))


async def streams(bench: Bench, stand: Stand, way: Way) -> None:
    """What a chunk adds: streams of many chunks against streams of one."""
    client = stand.client
    rate = 10 if bench.quick else 20
    costs = {}
    for chunks in (1, CHUNKS):
        make = streamed(chunks, 3)
        costs[chunks] = await bench.cost(
            stand, lambda make=make: client.paced(make, rate, bench.stretch)
        )
    each = (costs[CHUNKS].added - costs[1].added) / (CHUNKS - 1)
    budget = None if way.server != "http2" else 30.0 if way.response == "full" else 0.5
    bench.note(STREAM, f"a chunk, {way}", each, "us", budget=budget)


async def latency(bench: Bench, ports: list[int]) -> None:
    seconds = 2.0 if bench.quick else 6.0
    alone = (0.0, 0.0)
    for way in (
        Way("buffered", "watch", server="none"),
        Way("buffered", "watch"),
        Way("duplex", "full"),
    ):
        async with standing(way, ports) as stand:
            await stand.client.paced(small, 100, 1.0)
            result = await stand.client.paced(small, 100, seconds)
        mine = result.quantile(0.5) * 1e3, result.quantile(0.99) * 1e3
        if way.server == "none":
            alone = mine
            bench.note(LATENCY, "Envoy alone, p50", mine[0], "ms")
            bench.note(LATENCY, "Envoy alone, p99", mine[1], "ms")
        else:
            bench.note(LATENCY, f"{way}: p50 more", mine[0] - alone[0], "ms")
            bench.note(LATENCY, f"{way}: p99 more", mine[1] - alone[1], "ms")


async def hundred(bench: Bench) -> None:
    """Scraping alone, and whether picks suffer from it."""
    settle, seconds = (3.0, 2.0) if bench.quick else (12.0, 8.0)
    for kind, running, budget in (("idle", 0, 0.1), ("busy", 3, 0.3)):
        with model_servers(100, running) as ports:
            async with standing(Way("buffered", "watch"), ports) as stand:
                await asyncio.sleep(settle)
                share = await share_of_core(stand.pid, seconds)
                bench.note(POOL, f"scraping, {kind}", share, "cores", budget=budget)
                result = await stand.client.paced(small, 100, bench.stretch * 2)
                bench.note(POOL, f"p99 through Envoy, {kind}", result.quantile(0.99) * 1e3, "ms")
                if kind == "idle":
                    continue
                cost = await bench.cost(
                    stand, lambda s=stand: s.client.paced(small, RATE, bench.stretch)
                )
                bench.note(POOL, f"{RATE} requests a second and scraping", cost.share, "cores")


async def memory(bench: Bench) -> None:
    """A hundred endpoints, and prompts until the index is full."""
    chance = random.Random(5)

    def unlike(number: int) -> bytes:
        text = chance.randbytes(262_000).hex()
        return post(
            f'{{"model":"bench","messages":[{{"role":"user","content":"{text}"}}]}}'.encode()
        )

    with model_servers(100, 1) as ports:
        async with standing(Way("buffered", "watch"), ports) as stand:
            await asyncio.sleep(1)
            bench.note(PROCESS, "memory, 100 endpoints", memory_mb(stand.pid), "MB")
            wanted = 50_000 if bench.quick else 1_000_000
            blocks = 0
            for _ in range(40):
                await stand.client.flat_out(unlike, 4, 1.0 if bench.quick else 3.0)
                blocks = await held_blocks(stand)
                if blocks >= wanted * 0.99:
                    break
            await asyncio.sleep(0.5)
            budget = None if bench.quick else 300.0
            bench.note(
                PROCESS,
                "memory, 100 endpoints, full prefix index",
                memory_mb(stand.pid),
                "MB",
                budget=budget,
                note=f"{blocks:,} blocks; at its highest {memory_mb(stand.pid, 'VmHWM'):.0f} MB",
            )


async def held_blocks(stand: Stand) -> int:
    endpoints = (await stand.debug("endpoints"))["endpoints"]
    total = 0
    for row in endpoints:
        page = await stand.debug(f"prefix?endpoint={row['name']}")
        total += sum(index["blocks"] for index in page["indexes"])
    return total


def start(bench: Bench, folder: Path, ports: list[int]) -> None:
    """From the first instruction to the ready line, the best of some; modules are compiled once."""
    listed = endpoints_file(folder, ports)
    cached = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    cached.pop("PYTHONDONTWRITEBYTECODE", None)
    times = []
    for _ in range(2 if bench.quick else 5):
        began = time.perf_counter()
        command = [sys.executable, "-m", "epp", "run", f"--endpoints={listed}"]
        command += [f"--{name}-port=0" for name in ("grpc", "grpc-health", "metrics", "debug")]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, env=cached
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            times.append(time.perf_counter() - began)
            process.kill()
        assert json.loads(line)["ready"]
    bench.note(PROCESS, "start to ready, no cluster", min(times), "s", budget=1.0)


def in_the_path(bench: Bench) -> None:
    for count, (pick, way) in inside.picks(30 if bench.quick else 300).items():
        told = f"{way:.0f} with reading, answering and ending"
        budget = 300.0 if count == 1000 else None
        bench.note(PATH, f"a pick among {count}", pick, "us", budget=budget, note=told)
    bench.note(PATH, "hash and match 100,000 tokens", inside.long_prompt(), "us", budget=3000.0)
    bench.note(PATH, "the same in blocks of 16", inside.long_prompt_fine(), "us", budget=3000.0)


def ways(quick: bool) -> list[Way]:
    """What is measured with small requests, in this order."""
    if quick:
        return [
            Way("duplex", "full"),
            Way("buffered", "watch"),
            Way("buffered", "watch", server="bare"),
        ]
    whole = [Way(*mode, tls=tls) for tls in (True, False) for mode in MODES]
    bare = [
        Way(*mode, tls=tls, server="bare")
        for tls in (True, False)
        for mode in (("duplex", "full"), ("duplex", "watch"), ("buffered", "watch"))
    ]
    grpcio = [Way(*mode, server="grpcio") for mode in (("duplex", "full"), ("buffered", "watch"))]
    return [*whole, *bare, *grpcio]


MORE = {Way("duplex", "full"), Way("buffered", "watch"), Way("duplex", "full", server="bare")}
"""Ways that large prompts and streams are measured with, too."""


async def measure(bench: Bench, folder: Path) -> None:
    if bench.wants("path"):
        in_the_path(bench)
    with model_servers(3) as ports:
        if bench.wants("start"):
            start(bench, folder, ports)
        if bench.wants("latency") and not bench.quick:
            await latency(bench, ports)
        for way in ways(bench.quick):
            if not bench.wants(f"way {way}"):
                continue
            async with standing(way, ports) as stand:
                await bench.settle(stand)
                await small_requests(bench, stand, way)
                if way in MORE:
                    await large_prompts(bench, stand, way)
                    await streams(bench, stand, way)
    if bench.quick:
        return
    if bench.wants("hundred"):
        await hundred(bench)
    if bench.wants("memory"):
        await memory(bench)
    await everything.measure(bench)


ORDER = (
    *(SMALL, CEILING, LARGE, LARGE_CEILING, STREAM, LATENCY, POOL, PATH, PROCESS),
    *everything.ORDER,
)


def envoy_version() -> str:
    from support.envoy import binary

    said = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True)
    return said.stdout.split("version:")[1].split("/")[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute, coarse")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    parser.add_argument("--write", type=Path, help="a page whose section on costs is written")
    parser.add_argument("--beside", type=Path, help="the JSON of another run, shown beside")
    parser.add_argument(
        "--only",
        default="",
        help="only what this expression finds: path, start, latency, way ..., hundred, memory, "
        "everything ...",
    )
    options = parser.parse_args()
    bench = Bench(options.quick, options.only)
    beside = report.read(options.beside) if options.beside else None
    began = time.perf_counter()
    facts = {
        "python": python_build(),
        "machine": machine(),
        "envoy": envoy_version(),
        "when": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "plain Python, a fixed piece": f"{plain_python_ms():.1f} ms",
        "load average before": f"{os.getloadavg()[0]:.1f}",
    }
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        try:
            uvloop.run(measure(bench, Path(folder)))
        except KeyboardInterrupt:
            facts["note"] = "ended early; what there was until then"
    facts["took"] = f"{time.perf_counter() - began:.0f} s"
    bench.figures.sort(key=lambda figure: ORDER.index(figure.group))
    told = Report(facts, bench.figures)
    print("\n" + report.text(told, beside))
    if options.json:
        options.json.write_text(told.json())
    if options.write:
        report.write(options.write, report.markdown(told, beside))
    return 0


if __name__ == "__main__":
    sys.exit(main())
