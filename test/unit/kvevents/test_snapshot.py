"""Snapshots: believed only whole, young and sound."""

import asyncio

import msgspec
import pytest
from support.pools import Clock, endpoint
from support.stores import Log
from xxhash import xxh3_64_digest

from epp.datastore.residency import Residency
from epp.kvevents import snapshot
from epp.kvevents.sequence import Timing
from epp.kvevents.source import Source, identity
from epp.kvevents.stats import Counts

NOW = 1_700_000_000.0


def source(index, slot=0):
    return Source(
        endpoint(slot),
        slot,
        index,
        Counts(),
        replays=False,
        timing=Timing(),
        ask=lambda source, first: None,
        clock=Clock(),
        log=Log(),
    )


def batch(*names):
    event = {
        "type": "BlockStored",
        "block_hashes": list(names),
        "parent_block_hash": None,
        "token_ids": list(range(16 * len(names))),
        "block_size": 16,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": "sql",
    }
    return msgspec.msgpack.encode([1.0, [event], 0])


def followed():
    index = Residency()
    it = source(index)
    it.linked()
    it.heard(41, batch(7, 8, 9))
    return index, it


def written(index, *sources, at=NOW):
    return snapshot.take(index, sources, at)


def resealed(**changes):
    """A snapshot with these fields changed, its checksum made to fit again."""
    index, it = followed()
    fields = msgspec.msgpack.decode(written(index, it)[8:])
    fields["endpoints"][0].update(changes.pop("endpoint", {}))
    body = msgspec.msgpack.encode(fields | changes)
    return xxh3_64_digest(body) + body


def test_what_was_known_is_known_again():
    index, it = followed()
    (one,) = snapshot.read(written(index, it), NOW + 5).endpoints
    other = Residency()
    again = source(other)
    snapshot.restore(one, other, 0, again.sequence)

    assert one.endpoint == identity(endpoint(0))
    assert other.blocks(0, fast=True) == index.blocks(0, fast=True)
    assert other.block_tokens(0) == 16
    assert again.sequence.next == 42


class Watched(Residency):
    """Counts how often it was asked for the blocks of a tier: twice for each endpoint."""

    asked = 0

    def blocks(self, slot, *, fast):
        self.asked += 1
        return super().blocks(slot, fast=fast)


async def test_between_two_endpoints_others_have_their_turn():
    index, seen = Watched(), set()
    sources = [source(index, slot) for slot in range(4)]
    for it in sources:
        it.linked()
        it.heard(41, batch(7, 8, 9))

    async def others():
        while True:
            seen.add(index.asked)
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    data = await snapshot.take_in_turns(index, sources, NOW)
    beside.cancel()

    assert {2, 4, 6, 8} <= seen
    assert data == written(index, *sources)


def test_adapters_are_remembered():
    index, it = followed()

    assert snapshot.read(written(index, it), NOW).adapters == ("sql",)


def test_an_endpoint_with_a_gap_is_left_out():
    index, it = followed()
    it.heard(50, batch(1))

    assert snapshot.read(written(index, it), NOW).endpoints == ()


def test_an_endpoint_that_never_spoke_is_left_out():
    index = Residency()

    assert snapshot.read(written(index, source(index)), NOW).endpoints == ()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda data: data[:-1], "checksum"),
        (lambda data: data[:20] + b"x" + data[21:], "checksum"),
        (lambda data: b"", "checksum"),
        (lambda data: xxh3_64_digest(b"\xc1") + b"\xc1", "cannot be read"),
        (lambda data: bytes(snapshot.MOST_BYTES + 1), "is the most"),
        (lambda data: resealed(version=2), "version"),
        (lambda data: resealed(endpoint={"block_tokens": 0}), "do not fit"),
        (lambda data: resealed(endpoint={"next": 0}), "do not fit"),
        (lambda data: resealed(endpoint={"fast": {"names": b"12345678", "keys": b""}}), "do not"),
        (lambda data: resealed(endpoint={"fast": {"names": b"1", "keys": b"1"}}), "do not fit"),
    ],
)
def test_what_is_not_sound_is_not_believed(spoil, why):
    index, it = followed()
    with pytest.raises(ValueError, match=why):
        snapshot.read(spoil(written(index, it)), NOW)


@pytest.mark.parametrize("age", [901.0, -61.0])
def test_what_is_old_or_from_the_future_is_not_believed(age):
    index, it = followed()
    with pytest.raises(ValueError, match="seconds old"):
        snapshot.read(written(index, it), NOW + age)


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path):
    file = tmp_path / "caches"
    snapshot.write(str(file), b"first")
    snapshot.write(str(file), b"second")

    assert file.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(OSError, match="No such file"):
        snapshot.write(str(tmp_path / "none" / "caches"), b"third")
