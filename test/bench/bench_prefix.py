"""What prefix knowledge costs: keys, matching, learning, memory.

Run: python test/bench/bench_prefix.py [FILE]; with FILE the numbers are written there as JSON.
"""

import json
import os
import random
import sys
import timeit
from array import array
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from epp.datastore.prefix import PrefixIndex  # noqa: E402
from epp.domain.request import Prompt  # noqa: E402
from epp.tokens.blocks import block_keys  # noqa: E402

ENDPOINTS = 64
BLOCKS_EACH = 15_625
PROMPT_TOKENS = 100_000


def milliseconds(work: Callable[[], object]) -> float:
    """Best of seven, one call."""
    return min(timeit.repeat(work, number=1, repeat=7)) * 1e3


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def churned_index(chance: random.Random) -> PrefixIndex:
    """Every endpoint full, and as much again gone through it, in chains of 500 blocks."""
    index = PrefixIndex()
    shared = [chance.getrandbits(64) for _ in range(50)]
    for slot in range(ENDPOINTS):
        for _ in range(2 * BLOCKS_EACH // 450 + 1):
            own = [chance.getrandbits(64) for _ in range(450)]
            index.insert(slot, shared + own, BLOCKS_EACH)
    return index


def prompt_costs(index: PrefixIndex, chance: random.Random, block: int) -> dict[str, float]:
    """Milliseconds for a prompt of 100,000 tokens, by kind of work."""
    text = Prompt(text=chance.randbytes(4 * PROMPT_TOKENS))
    ids = Prompt(token_ids=array("I", text.text).tolist())
    keys = block_keys(text, block, 1)
    half = len(keys) // 2
    index.insert(3, keys[:half], BLOCKS_EACH)
    name = f"block {block}: "
    return {
        name + "keys of text": milliseconds(lambda: block_keys(text, block, 1)),
        name + "keys of token ids": milliseconds(lambda: block_keys(ids, block, 1)),
        name + "match": milliseconds(lambda: index.match(keys)),
        name + "learn, half known": timeit.timeit(
            lambda: index.insert(3, keys, BLOCKS_EACH), number=1
        )
        * 1e3,
        name + "learn again": milliseconds(lambda: index.insert(3, keys, BLOCKS_EACH)),
    }


def main(arguments: list[str]) -> None:
    chance = random.Random(1)
    before = resident_megabytes()
    index = churned_index(chance)
    numbers = {"blocks": float(len(index)), "memory MB": resident_megabytes() - before}
    for block in (16, 64):
        numbers |= prompt_costs(index, chance, block)
    numbers["clear one endpoint, ms"] = timeit.timeit(lambda: index.clear(9), number=1) * 1e3
    for name, value in numbers.items():
        print(f"{name:28} {value:12,.3f}")
    if arguments:
        Path(arguments[0]).write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
