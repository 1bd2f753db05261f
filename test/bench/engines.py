"""Engines as far as their caches show: they publish KV events over ZMQ and tokenize prompts.

One process for all of them. A batch stores ten blocks and removes ten that were stored before, as
those of a full cache do. Tokens are four bytes of text each, which is as good as any tokenizer for
counting costs.
"""

import itertools
import multiprocessing
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import numpy as np
import zmq

BLOCK = 16
BLOCKS_A_BATCH = 10
TOPIC = b"kv@bench"
RING = 60_000
"""Blocks of all engines together that batches go round in."""


def tokens_of(text: bytes) -> list[int]:
    """What the engines here make of a text: a token for every four bytes, all below 2**17."""
    whole = array("I", text[: len(text) // 4 * 4])
    return [each & 0x1FFFF for each in whole]


def stored(names: Sequence[int], tokens: Sequence[int]) -> dict[str, Any]:
    """A run of blocks from a prompt's start, as the newest vLLM tells of it."""
    return {
        "type": "BlockStored",
        "block_hashes": names,
        "parent_block_hash": None,
        "token_ids": tokens,
        "block_size": BLOCK,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
    }


def batch(*events: dict[str, Any]) -> bytes:
    return msgspec.msgpack.encode([time.time(), list(events), 0])


class Rounds:
    """Batches of one engine in a ring: what one stores, another removes half a round later."""

    def __init__(self, chance: np.random.Generator, batches: int) -> None:
        runs = [self._run(chance, BLOCKS_A_BATCH) for _ in range(batches)]
        payloads = []
        for number, (names, tokens) in enumerate(runs):
            old, _ = runs[number - batches // 2]
            gone = {"type": "BlockRemoved", "block_hashes": old, "medium": "GPU"}
            payloads.append(batch(stored(names, tokens), gone))
        self.payloads = itertools.cycle(payloads)

    @staticmethod
    def _run(chance: np.random.Generator, blocks: int) -> tuple[list[int], list[int]]:
        names = chance.integers(0, 1 << 63, blocks).tolist()
        return names, chance.integers(0, 1 << 17, blocks * BLOCK).tolist()

    @classmethod
    def unlike(cls, chance: np.random.Generator, blocks: int) -> bytes:
        """A batch of one run that nobody else holds."""
        return batch(stored(*cls._run(chance, blocks)))


class Engine:
    """A PUB socket and the numbers of its batches."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", rounds: Rounds) -> None:
        self._socket = context.socket(zmq.PUB)
        self._socket.set_hwm(100_000)
        self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self._number = 0
        self._rounds = rounds

    def say(self, payload: bytes) -> None:
        self._socket.send_multipart([TOPIC, self._number.to_bytes(8, "big"), payload])
        self._number += 1

    def go_round(self) -> None:
        self.say(next(self._rounds.payloads))


def engines(pipe: Connection, count: int) -> None:
    """Publishes on so many ports until it is told to end; does what it hears by `pipe`."""
    chance = np.random.default_rng(3)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    a_round = max(RING // BLOCKS_A_BATCH // count, 20)
    all_of_them = [Engine(context, Rounds(chance, a_round)) for _ in range(count)]
    pipe.send([engine.port for engine in all_of_them])
    turns = itertools.cycle(all_of_them)
    rate, due = 0.0, time.perf_counter()
    while True:
        wait = max(due - time.perf_counter(), 0.0) if rate else 1.0
        if pipe.poll(wait):
            match pipe.recv():
                case "rate", batches:
                    rate, due = batches, time.perf_counter()
                case "hold", number, tokens:
                    hold(all_of_them[number], tokens, chance)
                case "fill", blocks:
                    fill(all_of_them, blocks, chance)
                case _:
                    context.destroy(0)
                    return
            pipe.send("done")
        while rate and due <= time.perf_counter():
            next(turns).go_round()
            due += 1 / rate


def hold(engine: Engine, tokens: Sequence[int], chance: np.random.Generator) -> None:
    """The full blocks of a prompt."""
    blocks = len(tokens) // BLOCK
    names = chance.integers(0, 1 << 63, blocks).tolist()
    engine.say(batch(stored(names, tokens[: blocks * BLOCK])))


def fill(all_of_them: Sequence[Engine], blocks: int, chance: np.random.Generator) -> None:
    """So many blocks for each engine, in prompts of 100, no faster than a picker can hear them."""
    for _ in range(blocks // 100):
        for engine in all_of_them:
            engine.say(Rounds.unlike(chance, 100))
        time.sleep(0.002 * len(all_of_them))


class Engines:
    """The far end of the pipe. `ports` are those of the events, in the order of the engines."""

    def __init__(self, pipe: Connection, ports: list[int]) -> None:
        self._pipe = pipe
        self.ports = ports

    def rate(self, batches: float) -> None:
        """So many batches a second, of all engines together, from now on."""
        self._tell("rate", batches)

    def hold(self, number: int, tokens: Sequence[int]) -> None:
        """That engine has computed this prompt."""
        self._tell("hold", number, tokens)

    def fill(self, blocks: int) -> None:
        """Every engine stores so many blocks; returns when all are sent."""
        self._tell("fill", blocks)

    def _tell(self, *what: object) -> None:
        self._pipe.send(what)
        self._pipe.recv()


@contextmanager
def publishing(count: int) -> Iterator[Engines]:
    """So many engines, silent at first."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=engines, args=(theirs, count), daemon=True)
    child.start()
    try:
        yield Engines(ours, ours.recv())
    finally:
        ours.send(("end",))
        child.join(5)
        child.kill()
