"""KV events over real ZMQ sockets: what a subscriber sees, misses, and gets again."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager

import msgspec
import pytest
import zmq
import zmq.asyncio
from support.sims import simulator_here

from vllm_sim import hashing
from vllm_sim.engine import Pacing
from vllm_sim.kvevents.publisher import EndpointError
from vllm_sim.options import EventOptions
from vllm_sim.text import tokenizer

QUICK = Pacing(ttft=0.001, itl=0.001)
PROMPT = "abcd" * 48
END = b"\xff" * 8
SOON = 45.0


@asynccontextmanager
async def listening(sim):
    """A SUB socket on the simulator's events, once the subscription has arrived."""
    context = zmq.asyncio.Context()
    sub = context.socket(zmq.SUB)
    sub.subscribe(b"kv@")
    async with sim.session.get(f"{sim.url}/kv_event_sources") as answer:
        sub.connect((await answer.json())["0"]["endpoint"])
    try:
        await arrived(sim, sub)
        yield sub
    finally:
        sub.close(0)
        context.term()


async def arrived(sim, sub):
    """Wait until the engine is heard, then let it begin anew: numbers from zero, nothing cached.

    Nothing says when a subscription has arrived, and what is published before it is lost.
    """
    number = 0
    async with asyncio.timeout(SOON):
        while not await sub.poll(20):
            await ask(sim, prompt=f"probe {number} " * 20)
            number += 1
        last = (await sim.state())["events"]["next_seq"] - 1
        while (await receive(sub))[1] != last:
            pass
    await sim.faults(restart=True)


def sim_with_events(**events):
    options = {"endpoint": "tcp://127.0.0.1:0", "bind": True, **events}
    return simulator_here(
        model="org/m", pacing=QUICK, max_num_seqs=50, events=EventOptions(**options)
    )


async def ask(sim, prompt=PROMPT, **fields):
    body = {"model": "org/m", "prompt": prompt, "max_tokens": 1, **fields}
    async with sim.session.post(f"{sim.url}/v1/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def receive(sub):
    topic, seq, payload = await asyncio.wait_for(sub.recv_multipart(), SOON)
    return topic.decode(), int.from_bytes(seq, "big"), msgspec.msgpack.decode(payload)


async def test_a_subscriber_sees_the_blocks_of_a_prompt():
    async with sim_with_events() as sim, listening(sim) as sub:
        await ask(sim)
        topic, seq, (_, (event,), rank) = await receive(sub)
        tokens = tokenizer.encode(PROMPT)
        keys = hashing.block_keys(tokens, 16, parent=hashing.none_hash("vllm-none-hash"))
        assert topic == f"kv@127.0.0.1:{sim.port}@org/m"
        assert (seq, rank) == (0, 0)
        assert event["type"] == "BlockStored"
        assert event["block_hashes"] == [key & hashing.LOW_64 for key in keys]
        assert event["token_ids"] == tokens
        assert event["parent_block_hash"] is None


@pytest.mark.parametrize("door", ["endpoint", "replay_endpoint"])
async def test_a_port_of_events_that_is_taken_is_named(door):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EndpointError, match=f"no KV events over {address}: Address already"):
            async with sim_with_events(**{door: address}):
                pass


async def test_a_clock_that_is_wrong_stamps_events_wrong():
    async with sim_with_events() as sim, listening(sim) as sub:
        await sim.faults(clock_skew_s=-7200)
        await ask(sim)
        stamp = (await receive(sub))[2][0]
        assert stamp - time.time() == pytest.approx(-7200, abs=60)


async def test_salts_and_resets_are_told():
    async with sim_with_events() as sim, listening(sim) as sub:
        await ask(sim, cache_salt="tenant-a")
        _, _, (_, (event,), _) = await receive(sub)
        assert event["extra_keys"] == [["tenant-a"], None, None]
        async with sim.session.post(f"{sim.url}/reset_prefix_cache") as answer:
            assert answer.status == 200
        await ask(sim)
        assert (await receive(sub))[2][1][0] == {"type": "AllBlocksCleared"}


async def replayed(sim, first):
    async with sim.session.get(f"{sim.url}/kv_event_sources") as answer:
        endpoint = (await answer.json())["0"]["replay_endpoint"]
    context = zmq.asyncio.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(endpoint)
    await dealer.send_multipart([b"", first.to_bytes(8, "big")])
    seqs = []
    while True:
        *_, seq, payload = await asyncio.wait_for(dealer.recv_multipart(), SOON)
        if seq == END:
            assert payload == b""
            break
        seqs.append(int.from_bytes(seq, "big"))
    dealer.close(0)
    context.term()
    return seqs


async def test_what_was_lost_is_replayed_as_far_as_the_buffer_goes():
    replay = {"replay_endpoint": "tcp://127.0.0.1:0", "buffer_steps": 3}
    async with sim_with_events(**replay) as sim, listening(sim) as sub:
        await sim.faults(kv_event_loss=1.0)
        for number in range(5):
            await ask(sim, prompt=f"{number}" * 64)
        await sim.faults(kv_event_loss=0.0)
        await ask(sim, prompt="z" * 64)
        assert (await receive(sub))[1] == 5
        assert await replayed(sim, 4) == [4, 5]
        assert await replayed(sim, 0) == [3, 4, 5]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("kv_event_duplicate", [0, 0, 1, 1]), ("kv_event_reorder", [1, 0, 3, 2])],
)
async def test_batches_come_twice_or_out_of_order(fault, expected):
    async with sim_with_events() as sim, listening(sim) as sub:
        await sim.faults(**{fault: 1.0})
        for number in range(4):
            await ask(sim, prompt=f"{number}" * 64)
        assert [(await receive(sub))[1] for _ in expected] == expected


async def test_a_restart_counts_from_zero_again():
    async with sim_with_events() as sim, listening(sim) as sub:
        await ask(sim)
        await sim.faults(restart=True)
        await ask(sim)
        assert [(await receive(sub))[1] for _ in range(2)] == [0, 0]


async def test_a_publisher_dials_when_its_endpoint_names_a_host():
    context = zmq.asyncio.Context()
    sub = context.socket(zmq.SUB)
    sub.subscribe(b"kv@")
    port = sub.bind_to_random_port("tcp://127.0.0.1")
    try:
        async with sim_with_events(endpoint=f"tcp://127.0.0.1:{port}", bind=None) as sim:
            await arrived(sim, sub)
            await ask(sim)
            assert (await receive(sub))[1] == 0
    finally:
        sub.close(0)
        context.term()
