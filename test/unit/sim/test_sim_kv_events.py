"""The bytes of KV events, for every version that wrote them otherwise."""

from __future__ import annotations

import msgspec
import pytest

from vllm_sim.kvevents.encode import (
    EventDialect,
    StoredFields,
    cleared_event,
    encode_rows,
    removed_event,
    stored_event,
)
from vllm_sim.kvevents.publisher import ranked
from vllm_sim.metrics.dialect import Version


def dialect(version, **options):
    return EventDialect.of(Version.parse(version), **options)


def stored(hashes=(7,), tokens=(1, 2)):
    return StoredFields(list(hashes), None, list(tokens), len(tokens))


ARRAY = "93cb3ff80000000000009198ab426c6f636b53746f7265649107c092010202c0a3475055c000"
MAP = (
    "93cb3ff80000000000009188a474797065ab426c6f636b53746f726564ac626c6f636b5f6861736865739107"
    "b1706172656e745f626c6f636b5f68617368c0a9746f6b656e5f696473920102aa626c6f636b5f73697a6502"
    "a76c6f72615f6964c0a66d656469756da3475055a96c6f72615f6e616d65c000"
)
CLEARED_ARRAY = "93cb3ff80000000000009291b0416c6c426c6f636b73436c6561726564"
CLEARED_MAP = "81a474797065b0416c6c426c6f636b73436c6561726564c0"


def test_a_stored_map_is_vllms_byte_for_byte():
    row = stored_event(stored(), dialect("0.24.0"))
    assert encode_rows([row], ts=1.5, rank=0).hex() == MAP


def test_a_stored_array_is_vllms_byte_for_byte():
    row = stored_event(stored(), dialect("0.19.1"))[:8]
    assert encode_rows([row], ts=1.5, rank=0).hex() == ARRAY


def test_cleared_is_vllms_byte_for_byte():
    rows = [cleared_event(dialect(version)) for version in ("0.22.1", "0.24.0")]
    assert encode_rows(rows, ts=1.5, rank=None).hex() == CLEARED_ARRAY + CLEARED_MAP


@pytest.mark.parametrize(
    ("version", "stored_length", "removed_length"),
    [("0.9.2", 6, 2), ("0.10.2", 7, 3), ("0.19.1", 9, 3), ("0.22.1", 12, 4)],
)
def test_the_length_of_an_array_tells_its_version(version, stored_length, removed_length):
    assert len(stored_event(stored(), dialect(version))) == stored_length
    assert len(removed_event([7], dialect(version))) == removed_length


def test_arrays_can_be_had_from_a_new_version_and_maps_from_an_old_one():
    assert isinstance(stored_event(stored(), dialect("0.33.0", map_form=False)), list)
    assert isinstance(stored_event(stored(), dialect("0.9.2", map_form=True)), dict)


def test_hashes_are_the_low_64_bits_or_all_bytes():
    key = 2**255 + 5
    assert dialect("0.33.0").hash(key) == 5
    whole = dialect("0.33.0", int_hashes=False).hash(key)
    assert int.from_bytes(whole[-8:], "big") == 5
    assert len(msgspec.msgpack.encode(whole)) == 34


@pytest.mark.parametrize(
    ("endpoint", "rank", "expected"),
    [
        ("tcp://*:5557", 0, "tcp://*:5557"),
        ("tcp://*:5557", 2, "tcp://*:5559"),
        ("tcp://127.0.0.1:0", 2, "tcp://127.0.0.1:0"),
        ("inproc://events", 1, "inproc://events_dp1"),
        ("ipc:///tmp/events", 1, "ipc:///tmp/events"),
    ],
)
def test_a_rank_adds_itself_to_the_port(endpoint, rank, expected):
    assert ranked(endpoint, rank) == expected
