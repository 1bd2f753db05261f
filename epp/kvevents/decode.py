"""Batches of KV events, as bytes, become events: every dialect from vLLM 0.9 to 0.33, and SGLang's.

A batch is the msgpack array [ts, [events], rank]. An event is an array with its tag first, or a map
with the tag under `type`; fields only ever came at the end, and what is not known there is left
out. Each event is read by itself: one that cannot be read costs itself, never its batch.
"""

from typing import Any, Final, TypeAlias

import msgspec

Hash: TypeAlias = int | bytes
LOW_64: Final = (1 << 64) - 1
LARGEST_BATCH: Final = 16 << 20
"""Bytes. A step of 8,192 tokens is about 60 KB."""


class Stored(msgspec.Struct, frozen=True):
    """A contiguous run of blocks of one request; `token_ids` are those of all of them.

    SGLang with a draft model that looks ahead gives each token with the one after it.
    `parent_block_hash` names the block before the run, None at a prompt's start. Without tokens it
    announces that known blocks are in one more tier (`medium`).
    """

    block_hashes: list[Hash]
    parent_block_hash: Hash | None
    token_ids: list[int | tuple[int, int]]
    block_size: int
    lora_id: int | str | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: list[Any] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None
    kv_cache_spec_sliding_window: Any = None
    locality: Any = None
    ownership: Any = None
    session_id: Any = None
    lookahead_token_ids: Any = None
    cache_salt: str | None = None
    """SGLang's; vLLM has the salt among the first block's extra keys."""


class Removed(msgspec.Struct, frozen=True):
    """Blocks that left one tier."""

    block_hashes: list[Hash]
    medium: str | None = None
    group_idx: int | None = None


class Cleared(msgspec.Struct, frozen=True):
    """Every block is gone."""


class Unread(msgspec.Struct, frozen=True):
    """An event that was left out. `loses` says that blocks may have gone with it."""

    tag: str
    loses: bool


Event: TypeAlias = Stored | Removed | Cleared | Unread


class _StoredRow(Stored, frozen=True, array_like=True, tag="BlockStored"):
    pass


class _RemovedRow(Removed, frozen=True, array_like=True, tag="BlockRemoved"):
    pass


class _ClearedRow(Cleared, frozen=True, array_like=True, tag="AllBlocksCleared"):
    pass


class _StoredMap(Stored, frozen=True, tag_field="type", tag="BlockStored"):
    pass


class _RemovedMap(Removed, frozen=True, tag_field="type", tag="BlockRemoved"):
    pass


class _ClearedMap(Cleared, frozen=True, tag_field="type", tag="AllBlocksCleared"):
    pass


class _Batch(msgspec.Struct, frozen=True, array_like=True):
    ts: float
    events: list[msgspec.Raw]
    rank: int | None = None


class Batch(msgspec.Struct, frozen=True):
    """What one engine step did to the cache; `rank` is the engine's data-parallel rank."""

    ts: float
    events: tuple[Event, ...]
    rank: int | None = None


_BATCH: Final = msgspec.msgpack.Decoder(_Batch)
_ROW: Final = msgspec.msgpack.Decoder(_StoredRow | _RemovedRow | _ClearedRow)
_MAP: Final = msgspec.msgpack.Decoder(_StoredMap | _RemovedMap | _ClearedMap)
_MAP_STARTS: Final = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_LOSING: Final = frozenset({"BlockRemoved", "AllBlocksCleared"})


def decode_batch(payload: bytes) -> Batch:
    """The events of a payload, in order. Raises ValueError when it is no batch at all."""
    if len(payload) > LARGEST_BATCH:
        raise ValueError(f"a batch of {len(payload)} bytes; {LARGEST_BATCH} is the most")
    try:
        batch = _BATCH.decode(payload)
    except msgspec.DecodeError as error:
        raise ValueError(f"no batch of KV events: {error}") from error
    return Batch(batch.ts, tuple(map(_event, batch.events)), batch.rank)


def _event(raw: msgspec.Raw) -> Event:
    # By way of Raw, so that one event's fault stays its own: 0.4 us an event more.
    view = memoryview(raw)
    try:
        event: Event = (_MAP if view[0] in _MAP_STARTS else _ROW).decode(view)
    except msgspec.DecodeError:
        tag = _tag(view)
        return Unread(tag, loses=tag in _LOSING)
    return event


def _tag(view: memoryview) -> str:
    try:
        event = msgspec.msgpack.decode(view)
    except (msgspec.DecodeError, ValueError, TypeError):
        return ""
    named = None
    if isinstance(event, dict):
        named = event.get("type")
    elif isinstance(event, list) and event:
        named = event[0]
    return named if isinstance(named, str) else ""


def block_hash(value: Hash) -> int:
    """A block's hash as 64 bits: a signed number wraps, bytes count by their last eight."""
    if isinstance(value, int):
        return value & LOW_64
    return int.from_bytes(value[-8:], "big")
