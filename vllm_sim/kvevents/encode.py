"""Batches of KV events in vLLM's two encodings.

A batch is the msgpack array [ts, [events], data_parallel_rank]. Up to 0.22 an event is an array
with its tag first, whose length tells the version; later it is a map with key `type` that leaves
defaults out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from vllm_sim.engine import Cleared, Removed, Stored
from vllm_sim.hashing import LOW_64

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_sim.engine import KVEvent
    from vllm_sim.metrics.dialect import Version

MEDIUM = "GPU"
ATTENTION = "full_attention"
GROUP = 0


@dataclass(frozen=True, slots=True)
class EventDialect:
    """How events are written: by which version, as maps or arrays, hashes as ints or bytes."""

    version: Version
    map_form: bool
    int_hashes: bool = True

    @classmethod
    def of(
        cls, version: Version, *, map_form: bool | None = None, int_hashes: bool = True
    ) -> EventDialect:
        """The version's own form unless `map_form` says otherwise."""
        chosen = version.within((0, 23)) if map_form is None else map_form
        return cls(version, chosen, int_hashes or not version.within((0, 10)))

    def hash(self, key: int) -> int | bytes:
        return key & LOW_64 if self.int_hashes else key.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class StoredFields:
    """What a BlockStored carries, as the wire wants it; `group` is that of the cache, 0 where a
    model has only one."""

    hashes: list[int | bytes]
    parent: int | bytes | None
    tokens: list[int]
    block_size: int
    lora_id: int | None = None
    lora_name: str | None = None
    extra_keys: list[Any] | None = None
    medium: str | None = MEDIUM
    group: int | None = None


def stored_event(event: StoredFields, dialect: EventDialect) -> Any:
    """One BlockStored as the version writes it."""
    if dialect.map_form:
        return _stored_map(event)
    row: list[Any] = ["BlockStored", event.hashes, event.parent, event.tokens, event.block_size]
    row.append(event.lora_id)
    if dialect.version.within((0, 10)):
        row.append(event.medium)
    if dialect.version.within((0, 19)):
        row += [event.lora_name, event.extra_keys]
    if dialect.version.within((0, 22)):
        row += [0, ATTENTION, None]
    return row


def _stored_map(event: StoredFields) -> dict[str, Any]:
    """The fields without a default always, the others where they say something."""
    fields: dict[str, Any] = {
        "type": "BlockStored",
        "block_hashes": event.hashes,
        "parent_block_hash": event.parent,
        "token_ids": event.tokens,
        "block_size": event.block_size,
        "lora_id": event.lora_id,
        "medium": event.medium,
        "lora_name": event.lora_name,
    }
    if event.extra_keys is not None:
        fields["extra_keys"] = event.extra_keys
    if event.group is not None:
        fields |= {"group_idx": event.group, "kv_cache_spec_kind": ATTENTION}
    return fields


def removed_event(
    hashes: list[int | bytes],
    dialect: EventDialect,
    medium: str = MEDIUM,
    group: int | None = None,
) -> Any:
    """One BlockRemoved as the version writes it."""
    if dialect.map_form:
        grouped = {} if group is None else {"group_idx": group}
        return {"type": "BlockRemoved", "block_hashes": hashes, "medium": medium, **grouped}
    row: list[Any] = ["BlockRemoved", hashes]
    if dialect.version.within((0, 10)):
        row.append(medium)
    if dialect.version.within((0, 22)):
        row.append(0)
    return row


def cleared_event(dialect: EventDialect) -> Any:
    return {"type": "AllBlocksCleared"} if dialect.map_form else ["AllBlocksCleared"]


def encode_rows(rows: list[Any], *, ts: float, rank: int | None) -> bytes:
    """The batch around events that are ready for the wire."""
    return msgspec.msgpack.encode([ts, rows, rank])


def encode_batch(
    events: Iterable[KVEvent], *, ts: float, rank: int, size: int, dialect: EventDialect
) -> bytes:
    """One step's engine events as a batch; `size` is tokens in a block."""
    rows = []
    for event in events:
        if isinstance(event, Stored):
            rows.append(stored_event(_fields(event, size, dialect), dialect))
        elif isinstance(event, Removed):
            rows.append(removed_event([dialect.hash(event.key)], dialect, group=GROUP))
        elif isinstance(event, Cleared):
            rows.append(cleared_event(dialect))
    return encode_rows(rows, ts=ts, rank=rank)


def _fields(event: Stored, size: int, dialect: EventDialect) -> StoredFields:
    request = event.sequence.request
    job = request.tag.job
    first, end = event.first * size, (event.first + len(event.keys)) * size
    tokens = (
        [*job.prompt, *job.answer][first:end] if end > len(job.prompt) else job.prompt[first:end]
    )
    return StoredFields(
        hashes=[dialect.hash(key) for key in event.keys],
        parent=None if event.parent is None else dialect.hash(event.parent),
        tokens=list(tokens),
        block_size=size,
        lora_id=job.lora_id,
        lora_name=request.lora,
        extra_keys=_extra_keys(event, job.salt),
        group=GROUP,
    )


def _extra_keys(event: Stored, salt: str | None) -> list[Any]:
    """One entry for each block: the adapter, and the salt in the first block; None for neither."""
    lora = [event.sequence.request.lora] if event.sequence.request.lora else []
    rows: list[Any] = [list(lora) or None for _ in event.keys]
    if salt is not None and event.first == 0:
        rows[0] = [*lora, salt]
    return rows
