"""The KV events of both servers: the same prompts, then batch against batch, byte against byte.

Prompts are token ids and answers are forced to one id, so that with the same hash and the same
seed (`sha256_cbor`, PYTHONHASHSEED=0) the blocks have the same names. Only the time stamp, eight
bytes at a fixed place of every batch, is set to zero.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import zmq
import zmq.asyncio
from check_sim.cases import ADAPTER, MODEL, post
from check_sim.exchange import look

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp
    from check_sim.exchange import Case

BLOCK = 32
BLOCKS = 96
QUIET_S = 1.5
SOON_S = 120.0
STAMP = slice(2, 10)
END = b"\xff" * 8
FORCED = 120
SETTLE_S = 0.3


@dataclass(frozen=True, slots=True)
class Batch:
    """One message: topic, number, and the payload with its time stamp zeroed."""

    topic: bytes
    number: int
    payload: bytes

    @classmethod
    def of(cls, frames: Sequence[bytes]) -> Batch:
        topic, number, payload = frames
        stamped = payload[: STAMP.start] + bytes(8) + payload[STAMP.stop :]
        return cls(topic, int.from_bytes(number, "big"), stamped)

    def told(self) -> str:
        """The payload as text, for people and for the kept recording."""
        return str(msgspec.msgpack.decode(self.payload))


def prompt(label: int, blocks: int, more: int = 0) -> list[int]:
    """So many blocks of ids below 256 and some tokens more, that no other label shares."""
    first = struct.pack(">I", label)
    return [*first, *(1 + (label * 7 + at) % 250 for at in range(4, blocks * BLOCK + more))]


def ask(name: str, ids: list[int], tokens: int = 1, **fields: Any) -> Case:
    sampling = {"temperature": 0, "ignore_eos": True, "allowed_token_ids": [FORCED]}
    body = {"model": MODEL, "prompt": ids, "max_tokens": tokens, **sampling, **fields}
    return post(f"events: {name}", "/v1/completions", body)


def script(adapter_folder: str) -> tuple[Case, ...]:
    """What is asked of a fresh cache, one after the other."""
    base = prompt(1, 2, 5)
    turns = (
        ask("two blocks", base),
        ask("the same again", base),
        ask("one token more than a block", prompt(2, 1, 1)),
        ask("less than a block", prompt(3, 0, 9)),
        ask("continued", [*base, *prompt(4, 2)]),
        ask("whole blocks", prompt(5, 2)),
        ask("whole blocks again", prompt(5, 2)),
        ask("a block full of answer", prompt(6, 1), tokens=BLOCK + 3),
        ask("its answer as a prompt", [*prompt(6, 1), *[FORCED] * (BLOCK + 3)]),
        ask("salted", base, cache_salt="tenant-a"),
        ask("salted otherwise", base, cache_salt="tenant-b"),
    )
    folder = {"lora_name": ADAPTER, "lora_path": adapter_folder}
    adapted = (
        post("events: adapter loaded", "/v1/load_lora_adapter", folder),
        ask("adapted", base, model=ADAPTER),
        ask("adapted and salted", base, model=ADAPTER, cache_salt="tenant-a"),
        post("events: adapter unloaded", "/v1/unload_lora_adapter", {"lora_name": ADAPTER}),
    )
    flood = tuple(ask(f"flood {number}", prompt(100 + number, 20, 3)) for number in range(6))
    reset = (post("events: cache reset", "/reset_prefix_cache", {}), ask("after the reset", base))
    return (*turns, *adapted, *flood, *reset)


class Ear:
    """A subscriber that keeps every batch, and one that asks for them again."""

    def __init__(self, endpoint: str, replay: str) -> None:
        self._context = zmq.asyncio.Context()
        self._sub = self._context.socket(zmq.SUB)
        self._sub.linger = 0
        self._sub.subscribe(b"")
        self._sub.connect(endpoint)
        self._replay = replay

    async def heard(self, quiet: float = QUIET_S) -> list[Batch]:
        """What arrives until it has been quiet for so long."""
        batches = []
        while await self._sub.poll(int(quiet * 1000)):
            batches.append(Batch.of(await self._sub.recv_multipart()))
        return batches

    async def replayed(self, first: int) -> list[list[bytes]]:
        """The frames a DEALER gets for the numbers from `first` on, the end marker included."""
        dealer = self._context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.connect(self._replay)
        try:
            await dealer.send_multipart([b"", first.to_bytes(8, "big")])
            frames: list[list[bytes]] = []
            async with asyncio.timeout(SOON_S):
                while not frames or END not in frames[-1]:
                    frames.append(await dealer.recv_multipart())
            return frames
        finally:
            dealer.close(0)

    def close(self) -> None:
        self._sub.close(0)
        self._context.term()


@dataclass(slots=True)
class Heard:
    """What one server published for each case, and what it replayed."""

    by_case: dict[str, list[Batch]]
    replayed: list[list[bytes]]


async def listen(
    session: aiohttp.ClientSession, url: str, ear: Ear, cases: Sequence[Case]
) -> Heard:
    """Asks the cases one by one and notes which batches each brought; `connected` came before."""
    by_case = {}
    for case in cases:
        await look(session, url, case)
        by_case[case.name] = await ear.heard(SETTLE_S)
    last = max(batch.number for batches in by_case.values() for batch in batches)
    return Heard(by_case, await ear.replayed(last - 2))


async def connected(session: aiohttp.ClientSession, url: str, ear: Ear) -> None:
    """Asks until the subscription is known to have arrived, then empties the cache."""
    async with asyncio.timeout(SOON_S):
        number = 1000
        while not await ear.heard(SETTLE_S):
            await look(session, url, ask("probe", prompt(number, 1, 1)))
            number += 1
    await look(session, url, post("reset", "/reset_prefix_cache", {}))
    await ear.heard()


def kept(heard: Heard) -> dict[str, Any]:
    """The recording: for each case its topic and batches, numbers counted from the first."""
    numbers = [batch.number for batches in heard.by_case.values() for batch in batches]
    first = min(numbers, default=0)
    cases = {
        name: [[batch.number - first, batch.payload.hex()] for batch in batches]
        for name, batches in heard.by_case.items()
    }
    return {"batches": cases, "replay": [_frame_kinds(frames) for frames in heard.replayed]}


def _frame_kinds(frames: Sequence[bytes]) -> list[str]:
    """What each frame of a replayed message is, without its number and time."""
    return [_frame_kind(frame) for frame in frames]


def _frame_kind(frame: bytes) -> str:
    if frame == b"" or frame == END:
        return frame.hex() or "empty"
    if len(frame) == 8:
        return "number"
    return "topic" if frame.startswith(b"kv@") else "payload"
