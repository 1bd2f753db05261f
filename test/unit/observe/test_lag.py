"""The sampler of the event loop's lag."""

import asyncio
import time

from epp.observe.lag import LagSampler


def test_the_smallest_of_the_recent_samples_is_what_shedding_sees():
    told = []
    sampler = LagSampler(told.append, clock=lambda: 0.0, window=3)
    for late in (0.5, 0.1, 0.0, -0.2):
        sampler.sample(late)

    assert (sampler.sustained, told) == (0.0, [0.5, 0.1, 0.0, 0.0])


async def test_a_blocked_loop_shows():
    told = []
    sampler = LagSampler(told.append, clock=time.monotonic, interval=0.01)
    sampler.start()
    try:
        await asyncio.sleep(0.02)
        time.sleep(0.1)  # noqa: ASYNC251  blocking the loop is what is measured here
        await asyncio.sleep(0.02)
    finally:
        sampler.stop()

    assert max(told) > 0.05


async def test_after_its_stop_it_says_nothing_more():
    told = []
    sampler = LagSampler(told.append, clock=time.monotonic, interval=0.005)
    sampler.start()
    sampler.stop()
    await asyncio.sleep(0.02)

    assert told == []
