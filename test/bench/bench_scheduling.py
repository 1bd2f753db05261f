"""What one pick costs: `python test/bench/bench_scheduling.py`.

Times `Scheduler.schedule` alone, traced, for two policies: the trio of the Go pickers (queue 2, KV
cache 2, prefix 3) and the built-in default with its prefix producer. Each has one filterless
profile and max-score-picker. CPU time in microseconds, the best of several rounds.
"""

import platform
import random
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from time import process_time

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import numpy as np  # noqa: E402
from support.configurations import HEAD, QUEUE_KV_PREFIX  # noqa: E402
from support.pools import pool, request  # noqa: E402

from epp.assemble import Assembly, assemble_text, bare_house  # noqa: E402
from epp.domain.pool import PoolView  # noqa: E402
from epp.domain.request import Request  # noqa: E402
from epp.flow import look_up  # noqa: E402
from epp.plugins.catalog import CATALOGUE  # noqa: E402
from epp.scheduling.measure import observed  # noqa: E402
from epp.scheduling.policy import Policy  # noqa: E402
from epp.scheduling.tolerate import Tolerant  # noqa: E402

SIZES = (3, 10, 100, 1000)


def busy_pool(size: int) -> PoolView:
    chance = np.random.default_rng(1)
    return pool(
        waiting=chance.integers(0, 5, size).astype(float),
        running=chance.integers(0, 50, size).astype(float),
        kv_usage=chance.random(size),
        inflight_requests=chance.integers(0, 50, size),
        inflight_tokens=chance.integers(0, 20_000, size),
    )


def microseconds(call: Callable[[], object], *, rounds: int = 9, least: float = 0.03) -> float:
    call()
    count, took = 1, 0.0
    while took < least:
        count *= 2
        took = _once(call, count)
    return min(_once(call, count) / count for _ in range(rounds)) * 1e6


def _once(call: Callable[[], object], count: int) -> float:
    began = process_time()
    for _ in range(count):
        call()
    return process_time() - began


def picks(name: str, assembly: Assembly) -> None:
    asked = request(random.Random(1).randbytes(4000))
    for size in SIZES:
        alone, whole = pick_cost(assembly.policy, asked, busy_pool(size))
        print(f"{name:8} {size:5} endpoints: pick {alone:7.1f} us, with producers {whole:7.1f} us")


def pick_cost(policy: Policy, asked: Request, view: PoolView) -> tuple[float, float]:
    """Microseconds of scheduling alone, and with what producers find out before it."""
    placed, schedule = look_up(policy, asked, view), policy.scheduler.schedule
    return (
        microseconds(lambda: schedule(asked, placed)),
        microseconds(lambda: schedule(asked, look_up(policy, asked, view))),
    )


def wrapper() -> None:
    class Plugin:
        def score(self, request: object, pool: object) -> None:
            return None

    def nobody(told: object) -> None:
        return None

    plain, timed = Plugin(), observed(Plugin(), ("score",), nobody)
    once = Tolerant(Plugin(), ("score",), None, nobody, nobody)
    twice = Tolerant(timed, ("score",), None, nobody)
    base = microseconds(lambda: plain.score(1, 2))
    for name, plugin in (("measured", timed), ("guarded too", once), ("by two wrappers", twice)):
        more = microseconds(lambda plugin=plugin: plugin.score(1, 2)) - base
        print(f"a call that is {name} costs {more:.2f} us more")


def main() -> None:
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    print(f"Python {platform.python_version()}, PGO build: {optimized}, numpy {np.__version__}")
    house = bare_house(seed=1)
    picks("trio", assemble_text(HEAD + QUEUE_KV_PREFIX, "trio", CATALOGUE, house))
    picks("default", assemble_text(None, "", CATALOGUE, house))
    wrapper()


if __name__ == "__main__":
    main()
