"""What plugins cost: microseconds a call, by number of endpoints.

Run: python test/bench/bench_plugins.py [FILE]; with FILE the numbers are written there as JSON.
"""

import json
import random
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from support.pools import decision, endpoint, pool, request, tools  # noqa: E402

from epp.domain.pool import PoolView  # noqa: E402
from epp.plugins.filters.roles import DecodeFilter  # noqa: E402
from epp.plugins.pickers.max_score import MaxScorePicker  # noqa: E402
from epp.plugins.pickers.weighted_random import WeightedRandomPicker  # noqa: E402
from epp.plugins.producers.approx_prefix import ApproxPrefixCacheProducer  # noqa: E402
from epp.plugins.scorers.expected_work import ExpectedWorkScorer  # noqa: E402
from epp.plugins.scorers.kv_cache import KvCacheUtilizationScorer  # noqa: E402
from epp.plugins.scorers.prefix_cache import PrefixCacheScorer  # noqa: E402
from epp.plugins.scorers.queue import QueueScorer  # noqa: E402

SIZES = (8, 64, 1000)


def microseconds(work: Callable[[], object]) -> float:
    """Best of thirty, per call."""
    number = 50
    return min(timeit.repeat(work, number=number, repeat=30)) / number * 1e6


def busy_pool(size: int, chance: random.Random) -> PoolView:
    return pool(
        endpoints=[endpoint(n, labels={"llm-d.ai/role": "decode"}) for n in range(size)],
        waiting=[float(chance.randrange(9)) for _ in range(size)],
        running=[float(chance.randrange(99)) for _ in range(size)],
        kv_usage=[chance.random() for _ in range(size)],
        inflight_requests=[chance.randrange(9) for _ in range(size)],
        inflight_tokens=[chance.randrange(9999) for _ in range(size)],
        kv_blocks=[30_000.0] * size,
        block_size=[16.0] * size,
        warmth=[1.0] * size,
    )


def costs(size: int) -> dict[str, float]:
    """Microseconds by plugin in a pool of `size`, for a prompt of 2 KB known to some endpoints."""
    chance = random.Random(1)
    view, asked = busy_pool(size, chance), request(chance.randbytes(2048))
    producer = ApproxPrefixCacheProducer(ApproxPrefixCacheProducer.Params(), tools())
    for row in range(0, size, 5):
        producer.picked(asked, view, decision(view.endpoints[row]))
    full = view.having(producer.columns(asked, view))
    work = ExpectedWorkScorer(ExpectedWorkScorer.Params())
    best = MaxScorePicker(MaxScorePicker.Params(), tools())
    weighted = WeightedRandomPicker(WeightedRandomPicker.Params(), tools())
    prefix = PrefixCacheScorer(PrefixCacheScorer.Params())
    totals = np.array([chance.random() for _ in range(size)])
    chosen, roles = decision(full.endpoints[-1]), DecodeFilter()
    return {
        "approx prefix, columns": microseconds(lambda: producer.columns(asked, view)),
        "approx prefix, picked": microseconds(lambda: producer.picked(asked, full, chosen)),
        "expected work": microseconds(lambda: work.score(asked, full)),
        "queue": microseconds(lambda: QueueScorer().score(asked, full)),
        "kv cache": microseconds(lambda: KvCacheUtilizationScorer().score(asked, full)),
        "prefix cache": microseconds(lambda: prefix.score(asked, full)),
        "decode filter": microseconds(lambda: roles.filter(asked, full)),
        "max score": microseconds(lambda: best.pick(asked, full, totals)),
        "weighted random": microseconds(lambda: weighted.pick(asked, full, totals)),
    }


def main(arguments: list[str]) -> None:
    numbers = {size: costs(size) for size in SIZES}
    print(f"{'microseconds':24}" + "".join(f"{size:>10}" for size in SIZES))
    for name in numbers[SIZES[0]]:
        print(f"{name:24}" + "".join(f"{numbers[size][name]:10.1f}" for size in SIZES))
    if arguments:
        Path(arguments[0]).write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
