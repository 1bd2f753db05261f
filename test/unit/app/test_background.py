"""A task that dies is told and begun again, and takes nothing with it but what needs it."""

import asyncio

import pytest
from support.stores import Log, until

from epp.app.background import Background


class Bench:
    def __init__(self, first_pause=60.0):
        self.log, self.ended, self.died, self.turns = Log(), [], [], 0
        self.tasks = Background(
            self.log, self.ended.append, self.died.append, first_pause=first_pause
        )

    async def turn(self):
        while True:
            self.turns += 1
            await asyncio.sleep(0)

    async def die(self):
        async with asyncio.TaskGroup() as group:
            group.create_task(self.fall())

    async def fall(self):
        says = "the secret"
        raise KeyError(says)


async def test_the_others_go_on():
    bench = Bench()
    bench.tasks.own(bench.turn, "turn")
    bench.tasks.own(bench.die, "die")
    await until(lambda: bench.log.lines)
    before = bench.turns
    await until(lambda: bench.turns > before)
    await bench.tasks.cancel()

    assert bench.ended == []


async def test_it_is_named_by_type_and_place():
    bench = Bench()
    bench.tasks.own(bench.die, "die")
    await until(lambda: bench.log.lines)
    await bench.tasks.cancel()
    level, _, said = bench.log.lines[0]

    assert (level, said["task"], said["error"]) == ("error", "die", "KeyError")
    assert "in fall" in said["trace"]
    assert "the secret" not in str(said)


@pytest.mark.parametrize(("name", "ended"), [("election", ["election"]), ("discovery", [])])
async def test_only_an_election_that_died_ends_the_process(name, ended):
    bench = Bench()
    bench.tasks.own(bench.die, name)
    await until(lambda: bench.log.lines)
    await asyncio.sleep(0)
    await bench.tasks.cancel()

    assert bench.ended == ended


async def test_what_died_is_begun_again_each_time_after_a_longer_pause():
    bench = Bench(first_pause=0.001)
    bench.tasks.own(bench.fall, "die")
    await until(lambda: len(bench.died) >= 4)
    await bench.tasks.cancel()
    pauses = [said["again_in"] for _, _, said in bench.log.lines]

    assert pauses[:4] == [0.001, 0.002, 0.004, 0.008]
    assert set(bench.died) == {"die"}


async def test_what_came_to_its_end_is_not_begun_again():
    bench = Bench()
    begun = []

    async def once():
        begun.append(1)

    bench.tasks.own(once, "once")
    await until(lambda: begun)
    await asyncio.sleep(0.01)
    await bench.tasks.cancel()

    assert (begun, bench.died) == ([1], [])


async def test_cancelling_waits_for_the_end_of_all():
    bench = Bench()
    bench.tasks.own(bench.turn, "turn")
    await asyncio.sleep(0)
    await bench.tasks.cancel()

    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    assert bench.log.lines == []
