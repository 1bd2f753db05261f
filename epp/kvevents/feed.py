"""One endpoint's events become blocks of the residency index, under our own keys.

An engine's hash is never computed here: each run of blocks carries its tokens, and its parent is
known by the hash it came under. So neither seed nor algorithm of an engine matters.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from epp.datastore.residency import Residency
from epp.kvevents.decode import (
    Cleared,
    Event,
    Removed,
    Stored,
    Unread,
    block_hash,
    decode_batch,
)
from epp.kvevents.stats import Counts
from epp.tokens.blocks import BYTES_PER_TOKEN, cache_seed, chained, folded, own_block, pack

MOST_PARTIAL: Final = 65_536
PREFIX_KINDS: Final = frozenset({"full_attention", "mla_attention", "sink_full_attention"})
"""Attention that needs every block before it. Other groups of a hybrid model keep only a window."""
FAST_MEDIA: Final = frozenset({"", "gpu"})
TAGS: Final = frozenset({"lora", "mm", "cache_salt", "prompt_embeds"})


class Extras(NamedTuple):
    """What a block holds beside tokens: salt and digests as `texts`, images and such as `items`."""

    texts: tuple[str, ...] = ()
    items: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return self.texts + self.items


class Feed:
    """Applies batches of one engine, in order. `slot` is its endpoint's."""

    def __init__(self, residency: Residency, slot: int, counts: Counts) -> None:
        self._index = residency
        self._slot = slot
        self._counts = counts
        self._group: int | None = None
        self._block_size = 0
        self._partial: dict[int, tuple[int, bytes]] = {}

    def apply(self, payload: bytes) -> None:
        """Take a batch. What could not be read and may have removed blocks empties the endpoint."""
        self._counts.batches += 1
        try:
            events = decode_batch(payload).events
        except ValueError:
            self._unread(loses=True)
            return
        for event in events:
            self._take(event)

    def reset(self, *, emptied: bool = False) -> None:
        """Forget the endpoint; `emptied` says that its engine holds nothing, either."""
        self._counts.resets += 1
        self._forget(emptied)

    def _forget(self, emptied: bool) -> None:
        if emptied:
            self._index.emptied(self._slot)
        else:
            self._index.forget(self._slot)
        self._partial.clear()
        self._group = None
        self._block_size = 0

    def _take(self, event: Event) -> None:
        if isinstance(event, Stored):
            self._stored(event)
        elif isinstance(event, Removed):
            self._removed(event)
        elif isinstance(event, Cleared):
            self._counts.cleared += 1
            self._forget(emptied=True)
        elif isinstance(event, Unread):
            self._unread(loses=event.loses)

    def _unread(self, *, loses: bool) -> None:
        self._counts.unread += 1
        if loses:
            self.reset()

    # -- removed ----------------------------------------------------------------------------------

    def _removed(self, event: Removed) -> None:
        if self._of_another_group(event.group_idx):
            self._counts.other_groups += 1
            return
        hashes = list(map(block_hash, event.block_hashes))
        self._counts.removed += len(hashes)
        self._index.removed(self._slot, hashes, fast=is_fast(event.medium))
        if self._partial:
            for name in hashes:
                self._partial.pop(name, None)

    # -- stored -----------------------------------------------------------------------------------

    def _stored(self, event: Stored) -> None:
        if self._skipped(event):
            self._counts.other_groups += 1
            return
        hashes = list(map(block_hash, event.block_hashes))
        if not event.token_ids:
            self._also_in(hashes, is_fast(event.medium))
            return
        try:
            packed = pack(single(event.token_ids))
        except (OverflowError, TypeError):
            self._unread(loses=False)
            return
        size = event.block_size * BYTES_PER_TOKEN
        if size < 1 or len(packed) != len(hashes) * size:
            self._unread(loses=False)
            return
        self._run(event, hashes, packed)

    def _skipped(self, event: Stored) -> bool:
        kind = event.kv_cache_spec_kind
        if kind is not None and kind not in PREFIX_KINDS:
            return True
        if self._group is None:
            self._group = event.group_idx
        return self._of_another_group(event.group_idx)

    def _of_another_group(self, group: int | None) -> bool:
        return group is not None and self._group is not None and group != self._group

    def _also_in(self, hashes: Sequence[int], fast: bool) -> None:
        """Known blocks are now in one more tier."""
        keys = [self._index.key_of(self._slot, name) for name in hashes]
        known = [(name, key) for name, key in zip(hashes, keys, strict=True) if key is not None]
        self._counts.orphans += len(hashes) - len(known)
        self._counts.stored += len(known)
        self._index.stored(self._slot, [n for n, _ in known], [k for _, k in known], fast=fast)

    def _run(self, event: Stored, hashes: Sequence[int], packed: bytes) -> None:
        ours = own_block(event.block_size)
        if event.block_size < self._block_size:
            # The last page of a prompt may come though it is not full; nothing goes on from it.
            self._unread(loses=False)
            return
        if self._index.block_tokens(self._slot) not in (0, ours):
            self.reset()
        self._block_size = event.block_size
        self._index.set_block_tokens(self._slot, ours)
        adapter = event.lora_name or ""
        extras = [extras_of(entry, adapter) for entry in event.extra_keys or ()]
        salt = event.cache_salt or ""
        if event.parent_block_hash is None and extras and not salt:
            salt, extras[0] = without_salt(extras[0])
        start = self._start(event, salt, adapter)
        if start is None:
            self._counts.orphans += len(hashes)
            return
        self._counts.stored += len(hashes)
        if ours == event.block_size and not any(e.all for e in extras) and not start[1]:
            keys = chained(packed, ours * BYTES_PER_TOKEN, start[0])
        else:
            hashes, keys = self._slowly(hashes, packed, start, extras, ours * BYTES_PER_TOKEN)
        self._index.stored(self._slot, hashes, keys, fast=is_fast(event.medium))

    def _start(self, event: Stored, salt: str, adapter: str) -> tuple[int, bytes] | None:
        """Our key before the run, and bytes of a block of ours that the run goes on with."""
        if event.parent_block_hash is None:
            if adapter:
                self._index.note_adapter(adapter)
            return cache_seed(salt, adapter), b""
        parent = block_hash(event.parent_block_hash)
        if (partial := self._partial.get(parent)) is not None:
            return partial
        key = self._index.key_of(self._slot, parent)
        return None if key is None else (key, b"")

    def _slowly(
        self,
        hashes: Sequence[int],
        packed: bytes,
        start: tuple[int, bytes],
        extras: Sequence[Extras],
        ours: int,
    ) -> tuple[list[int], list[int]]:
        """Block by block: some hold more than tokens, or several make one of ours (bytes)."""
        names: list[int] = []
        keys: list[int] = []
        (key, pending), size = start, len(packed) // len(hashes)
        for number, name in enumerate(hashes):
            pending += packed[number * size : (number + 1) * size]
            if len(pending) < ours:
                self._keep_partial(name, key, pending)
                continue
            (key,) = chained(pending, ours, key)
            key = folded(key, extras[number].all if number < len(extras) else ())
            pending = b""
            names.append(name)
            keys.append(key)
        return names, keys

    def _keep_partial(self, name: int, key: int, pending: bytes) -> None:
        self._partial[name] = key, pending
        if len(self._partial) > MOST_PARTIAL:
            del self._partial[next(iter(self._partial))]


def single(tokens: Sequence[int | tuple[int, int]]) -> Sequence[int]:
    """The tokens themselves, where each may come with the one after it."""
    if not isinstance(tokens[0], tuple):
        return cast("Sequence[int]", tokens)
    return [token[0] if isinstance(token, tuple) else token for token in tokens]


def is_fast(medium: str | None) -> bool:
    """Whether blocks in this medium can be used without a copy."""
    return (medium or "").lower() in FAST_MEDIA


def extras_of(entry: Any, adapter: str) -> Extras:
    """What a block holds beside tokens. The adapter is left out: the chain starts from its name.

    Both shapes are read: bare (`"sql"`, `["hash", 0]`, `"salt"`) and tagged (`["lora", ...]`,
    `["mm", "hash", 0]`, `["cache_salt", "salt"]`).
    """
    texts: list[str] = []
    items: list[str] = []
    for item in entry if isinstance(entry, list) else ():
        if isinstance(item, str):
            if item != adapter:
                texts.append(item)
        elif isinstance(item, list) and item:
            _sort(item, texts, items)
    return Extras(tuple(texts), tuple(items))


def _sort(item: list[Any], texts: list[str], items: list[str]) -> None:
    first = item[0]
    tag = first if len(item) > 1 and isinstance(first, str) and first in TAGS else ""
    if tag in ("cache_salt", "prompt_embeds"):
        texts.append(str(item[1]))
    elif tag == "mm":
        items.append(str(item[1]))
    elif not tag:
        items.append(str(first))


def without_salt(first: Extras) -> tuple[str, Extras]:
    """The salt of a prompt's first block, and what else that block holds."""
    return (first.texts[0] if first.texts else ""), Extras(first.texts[1:], first.items)
