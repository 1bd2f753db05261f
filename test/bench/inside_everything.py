"""What happens without a socket where matches are exact and flow control is on."""

import asyncio
import random
import sys
import time
import timeit
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import inside  # noqa: E402
import numpy as np  # noqa: E402
from bench_kvevents import BLOCK, ENDPOINTS, full_index  # noqa: E402
from engines import tokens_of  # noqa: E402
from inside import Kind  # noqa: E402
from load import SYSTEM  # noqa: E402
from support.pools import pool, request, tools  # noqa: E402

from epp.app.live import LiveConfig  # noqa: E402
from epp.app.sources import only  # noqa: E402
from epp.datastore import Datastore  # noqa: E402
from epp.domain.request import Prompt, Request  # noqa: E402
from epp.plugins.producers.precise_prefix import PrecisePrefixCacheProducer  # noqa: E402
from epp.tokens.blocks import cache_seed, chained, pack  # noqa: E402

CONFIG = """\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
- type: precise-prefix-cache-producer
- type: expected-work-scorer
"""
TEXTS = 400
PROMPT_TOKENS = 100_000

Told = tuple[str, float, str, dict[str, Any]]


def ids(number: int) -> list[int]:
    text = SYSTEM + f"Question {number:08d}: what is the capital of France, and how many"
    return tokens_of(text.encode())


def bodies() -> list[bytes]:
    return [f'{{"model":"bench","prompt":{ids(n)}}}'.encode() for n in range(TEXTS)]


def taught(live: LiveConfig, _store: Datastore) -> None:
    """Every endpoint is followed and has computed some of the prompts."""
    producer = only(live.now.assembly, PrecisePrefixCacheProducer)
    assert producer is not None
    index, count = producer.residency, len(_store.endpoints)
    for slot in range(count):
        index.set_live(slot, True)
        index.set_block_tokens(slot, BLOCK)
        for number in (slot % TEXTS, (slot + 1) % TEXTS):
            keys = chained(pack(array("I", ids(number))), BLOCK * 4, cache_seed())
            index.stored(slot, [slot << 32 | key >> 32 for key in keys], keys, fast=True)


EVERYTHING = Kind(CONFIG, "/v1/completions", bodies, taught)
IDS = Kind("", "/v1/completions", bodies, inside.know_nothing)


def in_the_path() -> Iterator[Told]:
    """Rows: name, value, unit, more."""
    for count in (10, 1000):
        default, on = least_in_turns(count, 200)
        yield f"a pick among {count}: default", default[0], "us", whole_way(default)
        more = whole_way(on, default) | ({"budget": 300.0} if count == 1000 else {})
        yield f"a pick among {count}: on", on[0], "us", more
    index = full_index(random.Random(1))
    for name, prompt in prompts():
        yield (
            f"hash and match 100,000 tokens, {name}",
            matched(index, prompt),
            "us",
            {
                "budget": 3000.0,
                "note": f"{len(index):,} blocks of {ENDPOINTS} endpoints known",
            },
        )


def whole_way(
    found: tuple[float, float], base: tuple[float, float] | None = None
) -> dict[str, Any]:
    note = f"{found[1]:.0f} with reading, admitting, answering and ending"
    if base:
        note = f"{found[0] / base[0]:.2f} of the default's; {note}, {found[1] / base[1]:.2f}"
    return {"note": note}


def least_in_turns(count: int, rounds: int) -> list[tuple[float, float]]:
    """Of each the least pick and whole way."""
    work = [inside.timed(count, kind) for kind in (IDS, EVERYTHING)]
    found = [[once() for once in work] for _ in range(rounds)]
    return [
        (min(pick for pick, _ in each), min(way for _, way in each))
        for each in zip(*found, strict=True)
    ]


def prompts() -> Iterator[tuple[str, Prompt]]:
    chance = random.Random(2)
    tokens = [chance.randrange(150_000) for _ in range(PROMPT_TOKENS)]
    yield "rendered before", Prompt(token_ids=array("I", tokens))
    yield "sent in token ids", Prompt(token_ids=tokens)


def matched(index: Any, prompt: Prompt) -> float:
    """Microseconds of hashing and matching a prompt that 8 endpoints hold to unlike depths."""
    chance = random.Random(3)
    assert prompt.token_ids is not None
    keys = chained(pack(prompt.token_ids), BLOCK * 4, cache_seed())
    for slot in range(8):
        part = keys[: len(keys) * (slot + 1) // 8]
        index.stored(slot, [chance.getrandbits(64) for _ in part], part, fast=True)
    producer = PrecisePrefixCacheProducer(PrecisePrefixCacheProducer.Params(), tools())
    producer.residency = index
    view = pool(ENDPOINTS, block_size=np.full(ENDPOINTS, BLOCK))

    def work() -> None:
        asked: Request = request(prompt.token_ids)
        producer.columns(asked, view)

    # Single calls: few of them in a row are left alone on a machine that others use.
    return min(timeit.repeat(work, number=1, repeat=60, timer=time.process_time)) * 1e6


async def main() -> None:
    for row in in_the_path():
        print(row)


if __name__ == "__main__":
    asyncio.run(main())
