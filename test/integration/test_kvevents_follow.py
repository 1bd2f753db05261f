"""The follower beside real engines: what it believes is what they hold, whatever the link does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from support.sims import simulator_here
from support.stores import Log, until

from epp.datastore.residency import Residency
from epp.domain.endpoint import Endpoint
from epp.kvevents import snapshot
from epp.kvevents.follower import Follower
from epp.kvevents.sequence import Timing
from epp.kvevents.settings import PORT_LABEL, REPLAY_PORT_LABEL, FollowSettings
from vllm_sim.engine import Pacing
from vllm_sim.hashing import LOW_64
from vllm_sim.options import EventOptions

QUICK = Pacing(ttft=0.001, itl=0.001)
TIMING = Timing(grace=0.05, probe=0.2, retry=0.3)
SOON = 6.0


@asynccontextmanager
async def engine(*, replay=True, version="0.33.0", blocks=400, **events):
    options = {"endpoint": "tcp://127.0.0.1:0", "bind": True, **events}
    if replay:
        options["replay_endpoint"] = "tcp://127.0.0.1:0"
    async with simulator_here(
        model="org/m",
        pacing=QUICK,
        max_num_seqs=50,
        version=version,
        kv_blocks=blocks,
        events=EventOptions(**options),
    ) as sim:
        yield sim


async def endpoint_of(sim, name="pod"):
    async with sim.session.get(f"{sim.url}/kv_event_sources") as answer:
        source = (await answer.json())["0"]
    labels = {PORT_LABEL: source["endpoint"].rpartition(":")[2]}
    if source.get("replay_endpoint"):
        labels[REPLAY_PORT_LABEL] = source["replay_endpoint"].rpartition(":")[2]
    return Endpoint(name=name, host="127.0.0.1", port=sim.port, labels=labels)


@asynccontextmanager
async def following(*endpoints, residency=None, remembered=None, **settings):
    """A follower of these endpoints, in slots 0, 1, ..."""
    loop = asyncio.get_running_loop()
    it = Follower(
        residency or Residency(),
        FollowSettings(timing=TIMING, replay_idle=0.3, **settings),
        loop.time,
        Log(),
        remembered,
    )
    it.open()
    ticking = asyncio.create_task(it.run())
    try:
        it.follow([(each, slot) for slot, each in enumerate(endpoints)])
        yield it
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        it.close()


def held_by(sim):
    """The hashes of the blocks the engine would find."""
    pool = sim.server.site.replica.engine.pool
    return {key & LOW_64 for key in (*pool.held, *pool.idle) if key >= 0}


def believed(it, slot=0):
    return set(it._residency.blocks(slot, fast=True))


async def ask(sim, *prompts):
    async def one(prompt):
        body = {"model": "org/m", "prompt": prompt, "max_tokens": 1}
        async with sim.session.post(f"{sim.url}/v1/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()

    await asyncio.gather(*map(one, prompts))


def prompts(count, start=0, length=400):
    """Prompts with a shared beginning, so that their blocks form a tree."""
    return ["shared " * 60 + f"{number} " * length for number in range(start, start + count)]


async def agrees(it, sim, slot=0):
    await until(lambda: believed(it, slot) == held_by(sim) and believed(it, slot), SOON)


async def linked(it):
    await until(lambda: all(s.linked_once for s in it.sources.values()), SOON)
    await asyncio.sleep(0.1)  # the subscription has to reach the publisher


@pytest.mark.parametrize(
    "version", ["0.9.2", "0.10.2", "0.11.2", "0.19.1", "0.22.1", "0.24.0", "0.27.1", "0.33.0"]
)
async def test_every_version_is_followed(version):
    async with engine(version=version) as sim, following(await endpoint_of(sim)) as it:
        await linked(it)
        await ask(sim, *prompts(3))
        await agrees(it, sim)

        assert it.counts.unread == it.counts.orphans == it.counts.resets == 0


async def test_hashes_of_32_bytes_are_followed():
    async with engine(int_hashes=False) as sim, following(await endpoint_of(sim)) as it:
        await linked(it)
        await ask(sim, *prompts(3))
        await agrees(it, sim)


async def test_evictions_are_followed():
    async with engine(blocks=100) as sim, following(await endpoint_of(sim)) as it:
        await linked(it)
        for start in range(0, 30, 5):
            await ask(sim, *prompts(5, start))
        await agrees(it, sim)

        assert it.counts.removed > 0


async def test_one_who_comes_late_learns_all_from_a_replay():
    async with engine() as sim:
        await ask(sim, *prompts(4))
        async with following(await endpoint_of(sim)) as it:
            await agrees(it, sim)


async def test_without_replay_one_who_comes_late_learns_what_is_new():
    async with engine(replay=False) as sim:
        await ask(sim, "old " * 200)
        async with following(await endpoint_of(sim)) as it:
            await linked(it)
            await ask(sim, "new " * 200)
            await until(lambda: believed(it), SOON)

            assert believed(it) < held_by(sim)


@pytest.mark.parametrize("replay", [True, False], ids=["replay", "no-replay"])
@pytest.mark.parametrize("fault", ["duplicate", "reorder"])
async def test_repeats_and_swaps_change_nothing(fault, replay):
    async with engine(replay=replay) as sim, following(await endpoint_of(sim)) as it:
        await linked(it)
        await sim.faults(**{f"kv_event_{fault}": 0.5})
        for start in range(10):
            await ask(sim, *prompts(1, start))
        await sim.faults(clear=True)
        await ask(sim, *prompts(2, 20))
        await agrees(it, sim)

        assert it.counts.resets == 0


async def test_what_was_lost_comes_by_replay():
    async with engine(blocks=200) as sim, following(await endpoint_of(sim)) as it:
        await linked(it)
        await sim.faults(kv_event_loss=0.3)
        for start in range(20):
            await ask(sim, *prompts(2, start))
        await sim.faults(clear=True)
        await agrees(it, sim)

        assert it.counts.resets == 0
        assert it.counts.replays["done"] > 1


async def test_the_last_batch_is_missed_even_when_nothing_follows():
    async with engine() as sim, following(await endpoint_of(sim)) as it:
        await linked(it)
        await ask(sim, *prompts(1))
        await agrees(it, sim)
        await sim.faults(kv_event_loss=1.0)
        await ask(sim, *prompts(1, 5))
        await agrees(it, sim)


async def test_without_replay_a_loss_empties_that_endpoint_alone():
    async with engine(replay=False) as lossy, engine(replay=False) as sound:
        endpoints = [await endpoint_of(lossy, "lossy"), await endpoint_of(sound, "sound")]
        async with following(*endpoints) as it:
            await linked(it)
            await ask(lossy, *prompts(2))
            await ask(sound, *prompts(2))
            await agrees(it, lossy, 0)
            await agrees(it, sound, 1)
            await lossy.faults(kv_event_loss=1.0)
            await ask(lossy, "lost " * 200)
            await lossy.faults(clear=True)
            await ask(lossy, "fresh " * 200)
            await until(lambda: it.counts.resets == 1 and believed(it, 0), SOON)

            assert believed(it, 0) < held_by(lossy)
            await agrees(it, sound, 1)


@pytest.mark.parametrize("replay", [True, False], ids=["replay", "no-replay"])
async def test_an_engine_that_starts_again_is_noticed(replay):
    async with engine(replay=replay) as sim, following(await endpoint_of(sim)) as it:
        await linked(it)
        await ask(sim, *prompts(4))
        await agrees(it, sim)
        await sim.faults(restart=True)
        await ask(sim, *prompts(1, 50))
        await agrees(it, sim)

        assert it.counts.restarts == 1


async def test_a_reset_of_the_engines_cache_is_followed():
    async with engine() as sim, following(await endpoint_of(sim)) as it:
        await linked(it)
        await ask(sim, *prompts(4))
        await agrees(it, sim)
        async with sim.session.post(f"{sim.url}/reset_prefix_cache"):
            pass
        await ask(sim, *prompts(1, 50))
        await agrees(it, sim)

        assert it.counts.cleared == 1


async def test_an_endpoint_that_is_followed_anew_starts_afresh():
    async with engine(replay=False) as sim:
        endpoint = await endpoint_of(sim)
        async with following(endpoint) as it:
            await linked(it)
            await ask(sim, *prompts(2))
            await agrees(it, sim)
            it.follow([])
            unfollowed = believed(it)
            it.follow([(endpoint, 0)])

            assert (unfollowed, believed(it), it._residency.live) == (set(), set(), frozenset())


async def test_events_that_move_to_another_port_are_found_there():
    async with engine() as first, engine() as second:
        before, after = await endpoint_of(first), await endpoint_of(second)
        moved = Endpoint("pod", before.host, before.port, labels=after.labels)
        async with following(before) as it:
            await ask(second, *prompts(2))
            it.follow([(moved, 0)])
            await agrees(it, second)


async def test_engines_that_dial_are_followed_by_their_topic():
    async with (
        following(connect=False, bind="tcp://127.0.0.1:*", topic=b"kv@") as it,
        engine(replay=False, endpoint=it.bound, bind=False) as sim,
    ):
        it.follow([(Endpoint(name="pod", host="127.0.0.1", port=sim.port), 0)])
        await asyncio.sleep(0.3)
        await ask(sim, *prompts(3))
        await agrees(it, sim)

        assert it.counts.unknown_sources == 0


class Link:
    """A TCP relay that can be cut and mended."""

    def __init__(self, port):
        self.target = port
        self.port = 0
        self._pipes = set()

    async def start(self):
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self):
        self._server.close()
        for writer in self._pipes:
            writer.transport.abort()
        self._pipes.clear()
        await asyncio.sleep(0)

    async def _relay(self, reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._pipes |= {writer, back}

        async def pump(source, sink):
            try:
                while data := await source.read(65536):
                    sink.write(data)
            except OSError:
                pass
            sink.close()

        await asyncio.gather(pump(reader, back), pump(there, writer))


@asynccontextmanager
async def over_a_link(sim):
    """The engine's endpoint, its events by way of a link."""
    direct = await endpoint_of(sim)
    link = Link(int(direct.labels[PORT_LABEL]))
    await link.start()
    labels = {**direct.labels, PORT_LABEL: str(link.port)}
    try:
        yield link, Endpoint(name="pod", host="127.0.0.1", port=sim.port, labels=labels)
    finally:
        await link.cut()


@pytest.mark.parametrize("restart", [False, True], ids=["same-engine", "another-engine"])
async def test_a_link_that_was_cut_heals_with_replay(restart):
    async with engine() as sim, over_a_link(sim) as (link, endpoint), following(endpoint) as it:
        await linked(it)
        await ask(sim, *prompts(3))
        await agrees(it, sim)
        await link.cut()
        if restart:
            await sim.faults(restart=True)
        await ask(sim, *prompts(3, 10))
        await link.start()
        await agrees(it, sim)

        assert it.counts.resets == restart


async def test_a_link_that_was_cut_leaves_nothing_stale_without_replay():
    async with (
        engine(replay=False) as sim,
        over_a_link(sim) as (link, endpoint),
        following(endpoint) as it,
    ):
        await linked(it)
        await ask(sim, *prompts(3))
        await agrees(it, sim)
        await link.cut()
        await sim.faults(restart=True)
        await link.start()
        await until(lambda: not believed(it), SOON)
        await asyncio.sleep(0.1)
        await ask(sim, *prompts(2, 10))
        await agrees(it, sim)


async def test_nothing_grows_over_restarts_losses_and_comings_and_goings():
    async with engine(blocks=120) as sim:
        endpoint = await endpoint_of(sim)
        async with following(endpoint) as it:
            for turn in range(6):
                await sim.faults(kv_event_loss=0.2, kv_event_reorder=0.2)
                await ask(sim, *prompts(4, turn * 4))
                await sim.faults(restart=turn % 2 == 1, clear=True)
                it.follow([] if turn % 3 == 2 else [(endpoint, 0)])
                if turn % 3 == 2:
                    it._residency.on_removed(0)
            it.follow([(endpoint, 0)])
            await ask(sim, *prompts(2, 90))
            await agrees(it, sim)
            await until(lambda: len(it._residency) == len(held_by(sim)), SOON)

            assert len(it._residency._lanes) == 1
            assert not it._residency._sweeping
            assert len(it._pump._hearers) <= 3


async def test_a_snapshot_makes_the_next_picker_start_warm():
    async with engine(replay=False) as sim:
        endpoint = await endpoint_of(sim)
        async with following(endpoint) as first:
            await linked(first)
            await ask(sim, *prompts(3))
            await agrees(first, sim)
            data = snapshot.take(first._residency, first.sources.values(), 1000.0)
        known = {one.endpoint: one for one in snapshot.read(data, 1010.0).endpoints}
        async with following(endpoint, remembered=known) as second:
            warm = believed(second)
            await linked(second)
            await ask(sim, *prompts(1, 40))
            await agrees(second, sim)

            assert warm
            assert second.counts.resets == 0


@pytest.mark.parametrize("replay", [True, False], ids=["replay", "no-replay"])
async def test_a_snapshot_of_an_engine_that_has_gone_is_given_up(replay):
    async with engine(replay=replay) as sim:
        endpoint = await endpoint_of(sim)
        async with following(endpoint) as first:
            await linked(first)
            for start in range(5):
                await ask(sim, *prompts(1, start))
            await agrees(first, sim)
            data = snapshot.take(first._residency, first.sources.values(), 1000.0)
        await sim.faults(restart=True)
        known = {one.endpoint: one for one in snapshot.read(data, 1010.0).endpoints}
        async with following(endpoint, remembered=known) as second:
            await linked(second)
            await ask(sim, *prompts(1, 40))
            await agrees(second, sim)


async def test_an_address_that_is_taken_is_said_to_be():
    async with following(connect=False, bind="tcp://127.0.0.1:*") as first:
        second = Follower(
            Residency(), FollowSettings(connect=False, bind=first.bound), lambda: 0.0, Log()
        )
        try:
            with pytest.raises(OSError, match="already in use"):
                second.open()
        finally:
            second.close()
