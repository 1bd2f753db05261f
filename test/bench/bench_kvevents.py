"""What following the engines' caches costs: events in, matches out, memory.

Run: python test/bench/bench_kvevents.py [FILE]; with FILE the numbers are written there as JSON.
"""

import asyncio
import json
import os
import random
import sys
import threading
import time
import timeit
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import zmq

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import structlog  # noqa: E402

from epp.datastore.residency import Residency, thinned  # noqa: E402
from epp.domain.endpoint import Endpoint  # noqa: E402
from epp.kvevents.feed import Feed  # noqa: E402
from epp.kvevents.follower import Follower  # noqa: E402
from epp.kvevents.settings import PORT_LABEL, FollowSettings  # noqa: E402
from epp.kvevents.stats import Counts  # noqa: E402
from epp.tokens.blocks import cache_seed, chained, pack  # noqa: E402

ENDPOINTS = 64
BLOCKS_EACH = 15_625
PROMPT_TOKENS = 100_000
BLOCK = 16
BATCHES = 20_000
RATE = 2_000
SECONDS = 5.0


def milliseconds(work: Callable[[], object]) -> float:
    """Best of twenty, one call, in CPU time."""
    return min(timeit.repeat(work, number=1, repeat=20, timer=time.process_time)) * 1e3


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def stored(chance: random.Random, blocks: int, parent: int | None) -> tuple[bytes, list[int]]:
    """A batch with one run of blocks, as the newest vLLM writes it."""
    names = [chance.getrandbits(64) for _ in range(blocks)]
    event = {
        "type": "BlockStored",
        "block_hashes": names,
        "parent_block_hash": parent,
        "token_ids": [chance.randrange(150_000) for _ in range(blocks * BLOCK)],
        "block_size": BLOCK,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
    }
    return msgspec.msgpack.encode([1.0, [event], 0]), names


def removed(names: list[int]) -> bytes:
    rows = [{"type": "BlockRemoved", "block_hashes": [n], "medium": "GPU"} for n in names]
    return msgspec.msgpack.encode([1.0, rows, 0])


def full_index(chance: random.Random) -> Residency:
    """Every endpoint full, in chains of 500 blocks, a tenth of them shared; as much has left."""
    index = Residency(max_blocks=2_000_000)
    shared = [chance.getrandbits(64) for _ in range(50)]
    for slot in range(ENDPOINTS):
        index.set_live(slot, True)
        index.set_block_tokens(slot, BLOCK)
        for turn in range(2 * BLOCKS_EACH // 500):
            keys = shared + [chance.getrandbits(64) for _ in range(450)]
            names = [chance.getrandbits(64) for _ in keys]
            index.stored(slot, names, keys, fast=True)
            if turn >= BLOCKS_EACH // 500:
                index.removed(slot, list(index.blocks(slot, fast=True))[:500], fast=True)
    return index


def matching(index: Residency, chance: random.Random) -> dict[str, float]:
    """Milliseconds for a prompt of 100,000 tokens that 8 endpoints hold to unlike depths."""
    ids = array("I", [chance.randrange(150_000) for _ in range(PROMPT_TOKENS)])
    keys = chained(pack(ids), BLOCK * 4, cache_seed())
    for slot in range(8):
        part = keys[: len(keys) * (slot + 1) // 8]
        index.stored(slot, [chance.getrandbits(64) for _ in part], part, fast=True)
    slots = np.arange(ENDPOINTS)

    def hash_and_match() -> None:
        index.match(chained(pack(ids), BLOCK * 4, cache_seed()), BLOCK, slots, 0.0)

    return {
        "100,000 tokens: hash and match, ms": milliseconds(hash_and_match),
        "100,000 tokens: match, ms": milliseconds(lambda: index.match(keys, BLOCK, slots, 0.0)),
        "100,000 tokens: expect, ms": milliseconds(
            lambda: index.expect(3, thinned(keys, BLOCK), BLOCKS_EACH, 1.0)
        ),
        "forget an endpoint, ms": timeit.timeit(lambda: index.forget(0), number=1) * 1e3,
        "sweep 256 blocks, ms": milliseconds(lambda: index.sweep(256)),
    }


def feeding(chance: random.Random) -> dict[str, float]:
    """Microseconds a batch of ten blocks costs, removals of ten others beside it."""
    feed = Feed(Residency(), 0, Counts())
    payloads: list[bytes] = []
    held: list[int] = []
    parent: int | None = None
    for number in range(BATCHES):
        payload, names = stored(chance, 10, parent if number % 50 else None)
        payloads.append(payload)
        held += names
        parent = names[-1]
        if len(held) > BLOCKS_EACH:
            payloads.append(removed(held[:10]))
            del held[:10]
    began = time.process_time()
    for payload in payloads:
        feed.apply(payload)
    used = time.process_time() - began
    return {
        "decode, hash and index a batch of ten blocks, us": used / BATCHES * 1e6,
        "share of a core at 2,000 of them a second": used / BATCHES * RATE,
    }


def publish(socket: "zmq.Socket[bytes]", payloads: list[bytes], done: threading.Event) -> None:
    """So many batches a second, evenly, from a thread of its own."""
    began = time.perf_counter()
    for number, payload in enumerate(payloads):
        wait = began + number / RATE - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        socket.send_multipart([b"kv@", number.to_bytes(8, "big"), payload])
    done.set()


async def lateness(going: Callable[[], bool]) -> list[float]:
    """By how many milliseconds each sleep of one was late, while `going`."""
    late = []
    while going():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - before - 0.001) * 1e3)
    return late


async def following(chance: random.Random) -> dict[str, float]:
    """The loop's lateness while 2,000 batches a second come over real sockets."""
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.set_hwm(100_000)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    payloads = [stored(chance, 10, None)[0] for _ in range(int(RATE * SECONDS))]
    log = structlog.get_logger()
    it = Follower(Residency(), FollowSettings(), asyncio.get_running_loop().time, log)
    it.open()
    ticking = asyncio.create_task(it.run())
    endpoint = Endpoint("pod", "127.0.0.1", 8000, labels={PORT_LABEL: str(port)})
    it.follow([(endpoint, 0)])
    await asyncio.sleep(0.5)
    quiet_until = time.perf_counter() + SECONDS
    quiet = await lateness(lambda: time.perf_counter() < quiet_until)
    done = threading.Event()
    thread = threading.Thread(target=publish, args=(socket, payloads, done))
    thread.start()
    late = await lateness(lambda: not done.is_set())
    thread.join()
    await asyncio.sleep(0.2)
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    missed = len(payloads) - it.counts.batches
    it.close()
    socket.close(0)
    context.term()
    return {
        "2,000 batches/s: lost": float(missed),
        "no batches: loop late by, 99th ms": float(np.percentile(quiet, 99)),
        "2,000 batches/s: loop late by, median ms": float(np.percentile(late, 50)),
        "2,000 batches/s: loop late by, 99th ms": float(np.percentile(late, 99)),
        "2,000 batches/s: loop late by, worst ms": max(late),
    }


def main(arguments: list[str]) -> None:
    chance = random.Random(1)
    before = resident_megabytes()
    index = full_index(chance)
    numbers = {
        "blocks": float(len(index)),
        "memory, MB": resident_megabytes() - before,
        **matching(index, chance),
    }
    del index
    numbers |= feeding(chance)
    numbers |= asyncio.run(following(chance))
    for name, value in numbers.items():
        print(f"{name:52} {value:12,.3f}")
    if arguments:
        Path(arguments[0]).write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
