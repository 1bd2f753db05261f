"""The same work with everything on: KV events, exact matches, flow control; beside the default.

Each row is measured in turns with the default configuration in one run, so their ratio holds on a
machine that others use.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from backend import model_servers  # noqa: E402
from costs import Bench, Cost, Load  # noqa: E402
from driver import Replay, Script, body_of  # noqa: E402
from engines import Engines, publishing, tokens_of  # noqa: E402
from inside_everything import CONFIG, in_the_path  # noqa: E402
from load import MODEL, large, post, small, streamed  # noqa: E402
from stand import Stand, Way, memory_mb, share_of_core, standing  # noqa: E402

RENDERING = CONFIG + "- {type: token-producer, parameters: {vllm: {url: pool}}}\n"
CONFIGS = {"default": "", "on": CONFIG, "rendering": RENDERING}
EVENTS = 300
"""Batches a second: one for each request at 300 requests a second, of ten blocks each, prompt and
answer."""
STORM = 2_000
AT_ONCE = 16
TEXTS = 400
"""Small prompts in turn."""
LARGE_TEXTS = 40
SMALL = "Everything on: small request, 16 at once, replayed as Envoy sends them"
LARGE = "Everything on: 220 KB prompt, 2 at once, replayed as Envoy sends them"
STREAM = "Everything on: streamed answer"
POOL = "Everything on: a hundred busy endpoints"
PATH = "Everything on: in the path, no socket"
PROCESS = "Everything on: the process"
ORDER = (SMALL, LARGE, STREAM, POOL, PATH, PROCESS)
MODES = (("duplex", "full", 300.0, 200.0), ("buffered", "watch", 220.0, 130.0))
CHUNKS = 200

Make = Callable[[int], bytes]


@dataclass(frozen=True)
class Row:
    """Requests of one kind, and which pickers are asked them."""

    name: str
    make: Make
    configs: tuple[str, ...]


def as_ids(make: Make) -> Make:
    """The same prompt as a completion in token ids, of as many bytes at the most."""

    @cache
    def made(number: int) -> bytes:
        ids = tokens_of(text_of(make, number))
        del ids[len(body_of(make, number)) // 8 :]
        body = f'{{"model":"{MODEL}","prompt":{ids},"max_tokens":64}}'
        return post(body.encode(), path="/v1/completions")

    return made


def text_of(make: Make, number: int) -> bytes:
    """What a chat says, as the engines here see it."""
    found = re.findall(rb'"content":"(.*?)"', body_of(make, number))
    return b"".join(found)


def again(make: Make, texts: int) -> Make:
    """So many of them in turn."""
    return lambda number: make(number % texts)


def rows(make: Make, texts: int) -> list[Row]:
    chat, ids = again(make, texts), again(as_ids(make), texts)
    return [
        Row("chat", chat, ("default", "on", "rendering")),
        Row("completion in token ids", ids, ("default", "on")),
    ]


NAMES = {
    ("chat", "default"): "default",
    ("chat", "on"): "on, tokens unknown",
    ("chat", "rendering"): "on, rendered before",
    ("completion in token ids", "default"): "default",
    ("completion in token ids", "on"): "on",
}


# -- pickers, engines -----------------------------------------------------------------------------


@asynccontextmanager
async def pickers(
    way: Way, ports: Sequence[int], engines: Engines, names: Sequence[str]
) -> AsyncIterator[dict[str, Stand]]:
    """One for each configuration; those that follow events are linked to all engines."""
    async with AsyncExitStack() as stack:
        stands = {}
        for name in names:
            text = CONFIGS[name]
            flags = (f"--config-text={text}",) if text else ()
            events = engines.ports if text else ()
            stands[name] = await stack.enter_async_context(
                standing(way, ports, *flags, events=events)
            )
        for name, stand in stands.items():
            if CONFIGS[name]:
                await linked(stand)
        yield stands


async def linked(stand: Stand) -> None:
    async with asyncio.timeout(20):
        while not await all_linked(stand):  # noqa: ASYNC110 - the picker tells when asked
            await asyncio.sleep(0.1)
    # A link stands a moment before the other side knows what is subscribed to.
    await asyncio.sleep(0.5)


async def all_linked(stand: Stand) -> bool:
    return all(row["linked"] for row in (await stand.debug("kvevents"))["endpoints"])


def teach(engines: Engines, make: Make, texts: int) -> None:
    """The engines have computed those prompts, each one of them."""
    for number in range(texts):
        engines.hold(number % len(engines.ports), tokens_of(text_of(make, number)))


@contextmanager
def lanes(
    pairs: Sequence[tuple[Stand, Make]], mode: tuple[str, str], at_once: int
) -> Iterator[list[Replay]]:
    opened = [
        Replay(s.port, Script(*mode, make), secure=True, at_once=at_once) for s, make in pairs
    ]
    try:
        yield opened
    finally:
        for lane in opened:
            lane.close()


def flat_out(lane: Replay, bench: Bench) -> Load:
    return lambda: asyncio.to_thread(lane.run, bench.stretch / 2)


# -- rows -----------------------------------------------------------------------------------------


async def replays(
    bench: Bench,
    stands: Mapping[str, Stand],
    group: str,
    kinds: Sequence[Row],
    mode: tuple[str, str],
    at_once: int,
    **held: float,
) -> None:
    """Every kind of request by every configuration it is for, in turns."""
    asked = [(row, name) for row in kinds for name in row.configs]
    pairs = [(stands[name], row.make) for row, name in asked]
    with lanes(pairs, mode, at_once) as opened:
        loads: list[Load] = []
        for lane in opened:
            # All texts once, so that whoever asks an engine for tokens has asked.
            await asyncio.to_thread(lane.run, bench.stretch)
            loads.append(flat_out(lane, bench))
        costs = await bench.in_turns(list(zip((s for s, _ in pairs), loads, strict=True)), 2)
    base: dict[str, Cost] = {}
    for (row, name), cost in zip(asked, costs, strict=True):
        base.setdefault(row.name, cost)
        called = f"{'+'.join(mode)}: {row.name}, {NAMES[row.name, name]}"
        bench.note(group, called, cost.added, "us", note=told(cost, base[row.name]), **held)


def told(cost: Cost, base: Cost) -> str:
    beside = "" if cost is base else f"{cost.added / base.added:.2f} of the default's; "
    return f"{beside}{cost.whole:,.0f} with what goes on anyway"


async def small_requests(bench: Bench, stands: Mapping[str, Stand], engines: Engines) -> None:
    for request, response, budget, aim in MODES:
        kinds, mode = rows(small, TEXTS), (request, response)
        await replays(bench, stands, SMALL, kinds, mode, AT_ONCE, budget=budget, aim=aim)
    new = Row("chat", unheard(), ("rendering",))
    pair = [(stands["rendering"], new.make)]
    with lanes(pair, ("buffered", "watch"), AT_ONCE) as (lane,):
        cost = await bench.cost(stands["rendering"], flat_out(lane, bench), 2)
        name = "buffered+watch: chat, on, each text rendered anew"
        bench.note(SMALL, name, cost.added, "us", note=f"{cost.whole:,.0f} with all else")
    for name, served in (await served_by(stands)).items():
        print(f"  tokens by, {name}: {served}")


def unheard() -> Make:
    """Texts that come once."""
    return lambda number: small(TEXTS + number)


async def served_by(stands: Mapping[str, Stand]) -> dict[str, Any]:
    return {
        name: (await stand.debug("kvevents"))["tokens_by"]
        for name, stand in stands.items()
        if CONFIGS[name]
    }


async def storm(bench: Bench, stands: Mapping[str, Stand], engines: Engines) -> None:
    """Small requests while ten times the events come."""
    engines.rate(STORM)
    stand = stands["on"]
    await bench.settle(stand)
    share, before = stand.background, await batches(stand)
    bench.note(SMALL, f"following {STORM:,} batches a second", share, "cores")
    make = again(as_ids(small), TEXTS)
    for request, response, _, _ in MODES:
        with lanes([(stand, make)], (request, response), AT_ONCE) as (lane,):
            cost = await bench.cost(stand, flat_out(lane, bench), 2)
        called = f"{request}+{response}: completion in token ids, on, {STORM:,} batches a second"
        note = f"{cost.whole:,.0f} with following them, {cost.rate:,.0f} a second"
        bench.note(SMALL, called, cost.added, "us", note=note)
    print(f"  batches heard meanwhile: {await batches(stand) - before}; {await resets(stand)}")
    engines.rate(EVENTS)
    await bench.settle(stand)


async def batches(stand: Stand) -> int:
    return int((await stand.debug("kvevents"))["counts"]["batches"])


async def resets(stand: Stand) -> str:
    found = [row["resets"] for row in (await stand.debug("kvevents"))["endpoints"]]
    return f"resets {found}"


async def large_prompts(bench: Bench, stands: Mapping[str, Stand], engines: Engines) -> None:
    make = large(kinds=LARGE_TEXTS)
    teach(engines, make, LARGE_TEXTS)
    for request, response, _, _ in MODES:
        kinds, mode = rows(make, LARGE_TEXTS), (request, response)
        await replays(bench, stands, LARGE, kinds, mode, 2, budget=1500.0)


async def streams(bench: Bench, stands: Mapping[str, Stand], engines: Engines) -> None:
    """What a chunk adds: streams of many chunks against streams of one."""
    asked = [(name, chunks) for name in ("default", "on") for chunks in (1, CHUNKS)]
    pairs: list[tuple[Stand, Load]] = []
    for name, chunks in asked:
        pairs.append((stands[name], paced(stands[name], streamed(chunks, 3), 20, bench.stretch)))
    costs = dict(zip(asked, await bench.in_turns(pairs, 3), strict=True))
    each = {
        name: (costs[name, CHUNKS].added - costs[name, 1].added) / (CHUNKS - 1)
        for name in ("default", "on")
    }
    for name, cost in each.items():
        note = "" if name == "default" else f"{cost / each['default']:.2f} of the default's"
        bench.note(STREAM, f"a chunk, duplex+full: {name}", cost, "us", budget=30.0, note=note)


def paced(stand: Stand, make: Make, rate: float, seconds: float) -> Load:
    return lambda: stand.client.paced(make, rate, seconds)


async def hundred(bench: Bench) -> None:
    """Scraping and following, alone and beside requests."""
    with model_servers(100, 3) as ports, publishing(100) as engines:
        engines.rate(EVENTS)
        async with pickers(Way("buffered", "watch"), ports, engines, ("default", "on")) as stands:
            await asyncio.sleep(12.0)
            await shares(bench, stands, "", budget=0.3)
            await waits(bench, stands, f", {EVENTS} batches a second")
            engines.rate(STORM)
            only = {"on": stands["on"]}
            await shares(bench, only, f", {STORM:,} batches a second")
            await waits(bench, only, f", {STORM:,} batches a second")


async def shares(bench: Bench, stands: Mapping[str, Stand], more: str, **held: float) -> None:
    found: dict[str, list[float]] = {name: [] for name in stands}
    for _ in range(bench.stretches):
        for name, stand in stands.items():
            found[name].append(await share_of_core(stand.pid, 4.0))
    for name, each in found.items():
        what = "scraping" if name == "default" else f"scraping and following{more}"
        bench.note(POOL, f"{name}: {what}", min(each), "cores", **held)


async def waits(bench: Bench, stands: Mapping[str, Stand], more: str) -> None:
    """What clients see at 100 requests a second."""
    make = again(as_ids(small), TEXTS)
    for name, stand in stands.items():
        await stand.client.paced(make, 100, 1.0)
        result = await stand.client.paced(make, 100, bench.stretch * 4)
        assert not result.failed
        called = f"{name}: p99 through Envoy{'' if name == 'default' else more}"
        bench.note(POOL, called, result.quantile(0.99) * 1e3, "ms")


async def memory(bench: Bench) -> None:
    """A hundred endpoints whose events fill the index."""
    blocks = 10_000
    with model_servers(100, 1) as ports, publishing(100) as engines:
        async with pickers(Way("buffered", "watch"), ports, engines, ("on",)) as stands:
            stand = stands["on"]
            bench.note(PROCESS, "memory, 100 endpoints", memory_mb(stand.pid), "MB")
            await asyncio.to_thread(engines.fill, blocks)
            held = await heard(stand, 100 * blocks)
            engines.rate(EVENTS)
            await stand.client.paced(again(as_ids(small), TEXTS), 300, 2.0)
            highest = memory_mb(stand.pid, "VmHWM")
            bench.note(
                PROCESS,
                "memory, 100 endpoints, full of blocks by events",
                memory_mb(stand.pid),
                "MB",
                budget=300.0,
                note=f"{held:,} blocks confirmed; at its highest {highest:.0f} MB",
            )


async def heard(stand: Stand, wanted: int) -> int:
    """Blocks that the picker knows by events, once they are so many or no more come."""
    held, last = 0, -1
    while held < wanted and held != last:
        last = held
        await asyncio.sleep(2.0)
        held = sum(row["blocks"] for row in (await stand.debug("kvevents"))["endpoints"])
    return held


STEPS: Mapping[str, Callable[[Bench, Mapping[str, Stand], Engines], Awaitable[None]]] = {
    "everything small": small_requests,
    "everything storm": storm,
    "everything large": large_prompts,
    "everything stream": streams,
}
"""What is measured with the same three pickers."""


async def measure(bench: Bench) -> None:
    """Whatever `bench` wants of it."""
    if bench.wants("everything path"):
        for name, value, unit, more in in_the_path():
            bench.note(PATH, name, value, unit, **more)
    if steps := [step for name, step in STEPS.items() if bench.wants(name)]:
        with model_servers(3) as ports, publishing(3) as engines:
            engines.rate(EVENTS)
            async with pickers(Way(), ports, engines, tuple(CONFIGS)) as stands:
                teach(engines, small, TEXTS)
                for stand in stands.values():
                    await bench.settle(stand)
                for step in steps:
                    await step(bench, stands, engines)
    if bench.wants("everything hundred"):
        await hundred(bench)
    if bench.wants("everything memory"):
        await memory(bench)
