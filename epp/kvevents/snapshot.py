"""What is known of the engines' caches, as bytes that a new picker may start from.

A file is a checksum and a msgpack document. It is believed only as far as it can be checked: whole,
of this version, not old, each endpoint's columns of one length; and what an engine says afterwards
decides whether its part still holds (`sequence.py`).
"""

import asyncio
import os
import tempfile
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from xxhash import xxh3_64_digest

from epp.datastore.residency import Residency
from epp.kvevents.sequence import Sequence
from epp.kvevents.source import Source, identity

VERSION: Final = 1
MOST_BYTES: Final = 256 << 20
OLDEST: Final = 900.0
"""Seconds. An engine turns its cache over within minutes."""
CHECKSUM: Final = 8


class Columns(msgspec.Struct, frozen=True):
    """Blocks of one tier, native 64-bit words: the engine's hashes, and our keys beside them."""

    names: bytes
    keys: bytes


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint: the next batch it will send, what the last one was, and what it held."""

    endpoint: str
    next: int
    digest: int
    block_tokens: int
    fast: Columns
    slow: Columns


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """`taken` is seconds since the epoch."""

    version: int = VERSION
    taken: float
    adapters: tuple[str, ...] = ()
    endpoints: tuple[Remembered, ...] = ()


def take(residency: Residency, sources: Iterable[Source], wall_now: float) -> bytes:
    """The snapshot of all endpoints that are followed without a gap."""
    known = [remember(residency, source) for source in sources]
    return sealed(residency.adapters, known, wall_now)


async def take_in_turns(residency: Residency, sources: Iterable[Source], wall_now: float) -> bytes:
    """The same, one endpoint in each turn of the loop and the rest in a thread.

    A million blocks at once hold the loop for 100 ms. Each endpoint's part is of one moment.
    """
    known = []
    for source in tuple(sources):
        known.append(remember(residency, source))
        await asyncio.sleep(0)
    return await asyncio.to_thread(sealed, tuple(residency.adapters), known, wall_now)


def sealed(adapters: Iterable[str], known: Iterable[Remembered | None], wall_now: float) -> bytes:
    """A snapshot as bytes, checksum first."""
    endpoints = tuple(one for one in known if one is not None)
    body = msgspec.msgpack.encode(
        Snapshot(taken=wall_now, adapters=tuple(adapters), endpoints=endpoints)
    )
    return xxh3_64_digest(body) + body


def remember(residency: Residency, source: Source) -> Remembered | None:
    """One endpoint's part; None where there was no batch yet, or one is missing."""
    if not source.sequence.live:
        return None
    following, digest = source.sequence.next, source.sequence.last_digest
    if following is None or digest is None:
        return None
    return Remembered(
        endpoint=identity(source.endpoint),
        next=following,
        digest=digest,
        block_tokens=residency.block_tokens(source.slot),
        fast=columns(residency.blocks(source.slot, fast=True)),
        slow=columns(residency.blocks(source.slot, fast=False)),
    )


def columns(blocks: Mapping[int, int]) -> Columns:
    return Columns(array("Q", blocks.keys()).tobytes(), array("Q", blocks.values()).tobytes())


def read(data: bytes, wall_now: float) -> Snapshot:
    """The snapshot in `data`. Raises ValueError saying why it is not believed."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has {len(data)} bytes; {MOST_BYTES} is the most")
    body = data[CHECKSUM:]
    if data[:CHECKSUM] != xxh3_64_digest(body):
        raise ValueError("its checksum does not fit: it is cut short or changed")
    try:
        snapshot = msgspec.msgpack.decode(body, type=Snapshot)
    except msgspec.DecodeError as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if snapshot.version != VERSION:
        raise ValueError(f"it is of version {snapshot.version}, not {VERSION}")
    if not -60.0 < wall_now - snapshot.taken < OLDEST:
        raise ValueError(f"it is {wall_now - snapshot.taken:.0f} seconds old")
    if not all(map(sound, snapshot.endpoints)):
        raise ValueError("its columns do not fit each other")
    return snapshot


def sound(one: Remembered) -> bool:
    """Whether hashes and keys stand beside each other."""
    return (
        0 < one.block_tokens <= 1 << 20
        and one.next > 0
        and all(
            len(tier.names) == len(tier.keys) and len(tier.names) % 8 == 0
            for tier in (one.fast, one.slow)
        )
    )


def restore(one: Remembered, residency: Residency, slot: int, sequence: Sequence) -> None:
    """Put an endpoint's part into the index; its engine's next words confirm it or undo it."""
    residency.set_block_tokens(slot, one.block_tokens)
    for tier, fast in ((one.fast, True), (one.slow, False)):
        residency.stored(slot, words(tier.names), words(tier.keys), fast=fast)
    sequence.restore(one.next, one.digest)


def words(data: bytes) -> "array[int]":
    found = array("Q")
    found.frombytes(data)
    return found


def write(path: str, data: bytes) -> None:
    """Put `data` in place of the file at once, or not at all. Raises OSError."""
    target = Path(path)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=target.name, delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(target)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise
