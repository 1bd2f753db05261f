"""A thousand pods of which a hundred change each second, and ten thousand objectives."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest
from support.cluster import Cluster
from support.cluster_api import Object
from support.crowd import PROBE_ADDRESS, Crowd, crowd, objective, some_at_once

CHANGES = 100
OBJECTIVES = 10_000
SECONDS = 12.0


@pytest.fixture(scope="module", name="many")
async def a_crowd(bare: Cluster, image: str) -> AsyncIterator[Crowd]:
    async with crowd(bare, image) as found:
        yield found


@contextlib.asynccontextmanager
async def under_way(work: "asyncio.Future[None]") -> AsyncIterator[None]:
    """What runs meanwhile; cancelled at the end, and asked whether it has failed."""
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def told(name: str, many: Crowd, cpu: float, seconds: float, ages: list[float]) -> None:
    last = statistics.quantiles(ages, n=20)[-1]
    print(
        f"{name}: {100 * cpu / seconds:.1f} % of a core, {many.memory():.0f} MiB, age of the view "
        f"median {1000 * statistics.median(ages):.0f} ms, p95 {1000 * last:.0f} ms, "
        f"longest {1000 * max(ages):.0f} ms, of {len(ages)}"
    )


async def measured(many: Crowd, name: str) -> list[float]:
    begun, cpu = time.monotonic(), many.cpu()
    ages = await many.ages(SECONDS)
    told(name, many, many.cpu() - cpu, time.monotonic() - begun, ages)
    return ages


async def test_the_view_keeps_up_with_a_hundred_changes_each_second(many: Crowd) -> None:
    await measured(many, "1,000 pods, none changes")
    changed, begun = many.changes, time.monotonic()
    async with under_way(asyncio.ensure_future(many.change(CHANGES))):
        ages = await measured(many, f"1,000 pods, {CHANGES} change each second")
    rate = (many.changes - changed) / (time.monotonic() - begun)

    print(f"{rate:.0f} changes each second were sent")
    assert max(ages) < 5


async def test_ten_thousand_objectives_are_known(many: Crowd) -> None:
    api = many.cluster.api
    begun, cpu = time.monotonic(), many.cpu()
    made: list[Object] = [objective(number) for number in range(OBJECTIVES)]
    await some_at_once(partial(api.create, each) for each in made)
    print(
        f"{OBJECTIVES} objectives written in {time.monotonic() - begun:.0f} s, during which the "
        f"picker used {many.cpu() - cpu:.1f} s of a core"
    )
    ages = await measured(many, f"1,000 pods, {OBJECTIVES} objectives")

    assert max(ages) < 5
    assert await many.sees(PROBE_ADDRESS)
