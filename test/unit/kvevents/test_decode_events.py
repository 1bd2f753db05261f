"""Bytes of every dialect become the same events."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.kvevents.decode import (
    LARGEST_BATCH,
    Cleared,
    Removed,
    Stored,
    Unread,
    block_hash,
    decode_batch,
)

ARRAY = "93cb3ff80000000000009198ab426c6f636b53746f7265649107c092010202c0a3475055c000"
MAP = (
    "93cb3ff80000000000009188a474797065ab426c6f636b53746f726564ac626c6f636b5f6861736865739107"
    "b1706172656e745f626c6f636b5f68617368c0a9746f6b656e5f696473920102aa626c6f636b5f73697a6502"
    "a76c6f72615f6964c0a66d656469756da3475055a96c6f72615f6e616d65c000"
)
CLEARED = (
    "93cb3ff80000000000009291b0416c6c426c6f636b73436c656172656481a474797065b0416c6c426c6f636b73"
    "436c6561726564c0"
)


def batch(*events, ts=1.5, rank=0, more=()):
    return msgspec.msgpack.encode([ts, list(events), rank, *more])


def only(payload):
    (event,) = decode_batch(payload).events
    return event


@pytest.mark.parametrize("payload", [ARRAY, MAP], ids=["array", "map"])
def test_a_stored_run_of_vllm(payload):
    read = decode_batch(bytes.fromhex(payload))
    (event,) = read.events

    assert (read.ts, read.rank) == (1.5, 0)
    assert isinstance(event, Stored)
    assert (event.block_hashes, event.parent_block_hash) == ([7], None)
    assert (event.token_ids, event.block_size, event.medium) == ([1, 2], 2, "GPU")
    assert (event.lora_id, event.lora_name, event.extra_keys) == (None, None, None)


def test_everything_cleared_as_array_and_as_map():
    read = decode_batch(bytes.fromhex(CLEARED))

    assert read.rank is None
    assert [isinstance(event, Cleared) for event in read.events] == [True, True]


STORED = ["BlockStored", [7], None, [1, 2], 2, None]
STORED_BY_VERSION = {
    "0.9": STORED,
    "0.10": [*STORED, "GPU"],
    "0.19": [*STORED, "GPU", "sql", [["sql"]]],
    "0.22": [*STORED, "GPU", "sql", [["sql"]], 1, "full_attention", None],
    "later": [*STORED, "GPU", "sql", [["sql"]], 1, "full_attention", None, "LOCAL", {"x": 1}],
}


@pytest.mark.parametrize("version", STORED_BY_VERSION)
def test_the_arrays_of_every_version(version):
    event = only(batch(STORED_BY_VERSION[version]))
    old = version in ("0.9", "0.10")

    assert isinstance(event, Stored)
    assert event.block_hashes == [7]
    assert event.medium == (None if version == "0.9" else "GPU")
    assert event.lora_name == (None if old else "sql")


def test_the_map_of_a_later_version():
    event = only(
        batch(
            {
                "type": "BlockStored",
                "block_hashes": [b"\x01" * 32],
                "parent_block_hash": b"\x02" * 32,
                "token_ids": [1, 2],
                "block_size": 2,
                "lora_id": 3,
                "medium": "CPU",
                "lora_name": "sql",
                "extra_keys": [["sql", ["image", 0]]],
                "group_idx": 1,
                "kv_cache_spec_kind": "mla_attention",
                "locality": "LOCAL",
                "ownership": "tier2",
                "session_id": "s",
                "lookahead_token_ids": [9],
            }
        )
    )

    assert isinstance(event, Stored)
    assert event.kv_cache_spec_kind == "mla_attention"
    assert event.extra_keys == [["sql", ["image", 0]]]


def test_sglangs_map_with_a_salt_and_tokens_in_pairs():
    event = only(
        batch(
            {
                "type": "BlockStored",
                "block_hashes": [-7],
                "parent_block_hash": None,
                "token_ids": [[1, 2], [2, 3]],
                "block_size": 2,
                "lora_id": None,
                "medium": "GPU",
                "cache_salt": "tenant",
                "session_id": "s",
            }
        )
    )

    assert isinstance(event, Stored)
    assert event.token_ids == [(1, 2), (2, 3)]
    assert event.cache_salt == "tenant"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (["BlockRemoved", [7]], ([7], None, None)),
        (["BlockRemoved", [7], "CPU"], ([7], "CPU", None)),
        (["BlockRemoved", [7], "GPU", 2], ([7], "GPU", 2)),
        (["BlockRemoved", [7], "GPU", 2, "LOCAL", "x"], ([7], "GPU", 2)),
        ({"type": "BlockRemoved", "block_hashes": [7], "medium": "GPU"}, ([7], "GPU", None)),
    ],
)
def test_removals_of_every_version(row, expected):
    event = only(batch(row))

    assert isinstance(event, Removed)
    assert (event.block_hashes, event.medium, event.group_idx) == expected


def test_sglangs_batch_without_a_rank():
    payload = msgspec.msgpack.encode([3, [["BlockStored", [-5], None, [1], 1, None]]])
    read = decode_batch(payload)

    assert (read.ts, read.rank) == (3.0, None)
    assert block_hash(read.events[0].block_hashes[0]) == 2**64 - 5


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        pytest.param(["Prefetched", 1], Unread("Prefetched", False), id="unknown-array"),
        pytest.param({"type": "Prefetched"}, Unread("Prefetched", False), id="unknown-map"),
        pytest.param(["BlockStored", "x"], Unread("BlockStored", False), id="broken-stored"),
        pytest.param(["BlockRemoved"], Unread("BlockRemoved", True), id="broken-removed"),
        pytest.param({"type": "BlockRemoved"}, Unread("BlockRemoved", True), id="broken-map"),
        pytest.param([], Unread("", False), id="empty"),
        pytest.param(7, Unread("", False), id="number"),
        pytest.param(None, Unread("", False), id="nothing"),
    ],
)
def test_an_event_that_cannot_be_read_costs_itself_alone(odd, expected):
    before, unread, after = decode_batch(batch(STORED, odd, ["BlockRemoved", [7]])).events

    assert isinstance(before, Stored)
    assert isinstance(after, Removed)
    assert unread == expected


def test_later_fields_of_a_batch_are_left_out():
    assert isinstance(only(batch(STORED, more=["later", 1])), Stored)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x93", b"\x01", b"\x90", b"\x92\x01\x02"])
def test_what_is_no_batch_is_said_to_be_none(payload):
    with pytest.raises(ValueError, match="no batch"):
        decode_batch(payload)


def test_a_batch_has_a_largest_size():
    with pytest.raises(ValueError, match="is the most"):
        decode_batch(bytes(LARGEST_BATCH + 1))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3236607068019569386, 3236607068019569386),
        (3236607068019569386 - 2**64, 3236607068019569386),
        (
            bytes.fromhex("202da172482d928bbc42ab25b0151e2b895f13f41002e27b2ceabcfae6d332ea"),
            3236607068019569386,
        ),
        (b"\x01", 1),
        (b"", 0),
    ],
    ids=["unsigned", "signed", "digest", "short", "empty"],
)
def test_a_hash_is_its_low_64_bits(value, expected):
    assert block_hash(value) == expected


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_batch_or_a_value_error(payload):
    with suppress(ValueError):
        assert isinstance(decode_batch(payload).events, tuple)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=8,
)


@settings(max_examples=200)
@given(st.lists(anything, max_size=5))
def test_no_event_breaks_its_batch(events):
    assert len(decode_batch(batch(*events)).events) == len(events)
