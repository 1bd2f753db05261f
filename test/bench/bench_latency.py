"""What predicting latencies costs: microseconds a pick by number of endpoints, and an answer.

Run: python test/bench/bench_latency.py [FILE]; with FILE the numbers are written there as JSON.
"""

import json
import random
import sys
import timeit
from collections.abc import Callable
from pathlib import Path
from time import process_time

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from support.pools import decision, endpoint, pool, request, tools  # noqa: E402
from support.replica_times import Replicas  # noqa: E402

from epp.domain.pool import PoolView  # noqa: E402
from epp.domain.response import Ending, ResponseHead  # noqa: E402
from epp.plugins.filters.slo_headroom import SloHeadroomTierFilter  # noqa: E402
from epp.plugins.producers.predicted_latency import PredictedLatencyProducer  # noqa: E402
from epp.plugins.scorers.expected_work import ExpectedWorkScorer  # noqa: E402
from epp.plugins.scorers.latency import LatencyScorer  # noqa: E402

SIZES = (8, 64, 1000)
OK = ResponseHead(200, {})
SLO = {"x-llm-d-slo-ttft-ms": "500", "x-llm-d-slo-tpot-ms": "50"}


def microseconds(work: Callable[[], object], number: int = 50) -> float:
    """Best of thirty, per call, of this process's own time."""
    return min(timeit.repeat(work, number=number, repeat=30, timer=process_time)) / number * 1e6


def busy_pool(size: int, chance: random.Random, classes: int) -> PoolView:
    kinds = [{"nvidia.com/gpu.product": f"gpu-{n % classes}"} for n in range(size)]
    return pool(
        endpoints=[endpoint(n, labels=labels) for n, labels in enumerate(kinds)],
        waiting=[float(chance.randrange(9)) for _ in range(size)],
        running=[float(chance.randrange(99)) for _ in range(size)],
        kv_usage=[chance.random() for _ in range(size)],
        inflight_requests=[chance.randrange(9) for _ in range(size)],
        inflight_tokens=[chance.randrange(9999) for _ in range(size)],
        prefix_tokens=[chance.randrange(512) for _ in range(size)],
        prefix_total=[512] * size,
    )


def warm(producer: PredictedLatencyProducer, view: PoolView) -> None:
    """Enough answers for every class."""
    producer.columns(request(b"x" * 2048), view)
    model, replicas = producer.courses.model, Replicas()
    for number in range(100 * len(list(model.classes))):
        answer, slot = replicas.answer(), number % len(view)
        for target, seen in enumerate((answer.ttft, answer.tpot)):
            model.learn(target, slot, answer.features, seen, seen)


def costs(size: int, classes: int) -> dict[str, float]:
    """Microseconds in a pool of `size`."""
    chance = random.Random(1)
    view = busy_pool(size, chance, classes)
    asked = request(b"x" * 2048, headers=SLO, stream=True)
    plain = request(b"x" * 2048, stream=True)
    producer = PredictedLatencyProducer(PredictedLatencyProducer.Params(), tools())
    warm(producer, view)
    looked = view.having(producer.columns(asked, view))
    scorer = LatencyScorer(LatencyScorer.Params())
    work = ExpectedWorkScorer(ExpectedWorkScorer.Params())
    tier = SloHeadroomTierFilter(SloHeadroomTierFilter.Params(epsilon_explore_neg=0.0), tools())
    chosen = decision(view.endpoints[size // 2])

    def answered() -> None:
        producer.columns(asked, view)
        producer.picked(asked, looked, chosen)
        producer.response_started(asked, chosen, OK)
        producer.ended(asked, chosen, Ending.COMPLETE)

    predict = microseconds(lambda: producer.columns(plain, view))
    return {
        "predict": predict,
        "predict, with SLOs": microseconds(lambda: producer.columns(asked, view)),
        "remember the pick": microseconds(answered) - predict,
        "latency scorer": microseconds(lambda: scorer.score(asked, looked)),
        "SLO filter": microseconds(lambda: tier.filter(asked, looked)),
        "(expected work)": microseconds(lambda: work.score(asked, looked)),
    }


def learning() -> float:
    """Microseconds one answer teaches both lines in, solutions included."""
    producer = PredictedLatencyProducer(PredictedLatencyProducer.Params(), tools())
    view = busy_pool(1000, random.Random(2), 1)
    warm(producer, view)
    model, answers = producer.courses.model, [Replicas().answer() for _ in range(64)]

    def learn() -> None:
        for slot, answer in enumerate(answers):
            model.learn(0, slot, answer.features, answer.ttft, answer.ttft)
            model.learn(1, slot, answer.features, answer.tpot, answer.tpot)

    return microseconds(learn, number=1) / len(answers)


def main(arguments: list[str]) -> None:
    numbers = {f"{size}": costs(size, 1) for size in SIZES}
    numbers["1000, 4 classes"] = costs(1000, 4)
    print(f"{'microseconds':24}" + "".join(f"{size:>18}" for size in numbers))
    for name in numbers["8"]:
        print(f"{name:24}" + "".join(f"{row[name]:18.1f}" for row in numbers.values()))
    taught = learning()
    print(f"{'learn an answer':24}{taught:18.1f}")
    if arguments:
        numbers["learning"] = {"an answer": taught}
        Path(arguments[0]).write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    np.seterr(all="raise")
    main(sys.argv[1:])
