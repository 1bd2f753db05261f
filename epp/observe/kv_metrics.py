"""What following the engines' caches did, read from the follower when somebody looks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import Metric

from epp.observe.series import Family, Kind, Spec, Tally, tallies


@dataclass(slots=True, frozen=True)
class KvState:
    """Counts since the start, by the names in `COUNTS`; endpoints and blocks as of now."""

    counts: Mapping[str, int] = field(default_factory=dict)
    replays: Mapping[str, int] = field(default_factory=dict)
    """By outcome."""
    tokens_by: Mapping[str, int] = field(default_factory=dict)
    """Requests by who told their tokens."""
    followed: int = 0
    live: int = 0
    blocks: int = 0


def events(kind: Kind, stem: str, meaning: str, *labels: str) -> Spec:
    """A family of the followed caches."""
    return Spec(f"llm_d_epp_kv_events_{stem}", kind, meaning, labels)


COUNTS: Final[Mapping[str, Spec]] = {
    "batches": events("counter", "batches_total", "Batches of KV events that were applied."),
    "stored": events("counter", "blocks_stored_total", "Blocks that engines stored."),
    "removed": events("counter", "blocks_removed_total", "Blocks that engines removed."),
    "orphans": events(
        "counter", "orphan_blocks_total", "Blocks that hang from blocks never heard of."
    ),
    "unread": events("counter", "unread_total", "Events and batches that could not be read."),
    "gaps": events("counter", "gaps_total", "Times batches were missing."),
    "restarts": events("counter", "engine_restarts_total", "Times an engine had started again."),
    "resets": events(
        "counter", "resets_total", "Times what was known of an endpoint was given up."
    ),
    "unknown_sources": events(
        "counter", "unknown_sources_total", "Batches of engines that are no endpoint of the pool."
    ),
}
REPLAYS: Final = events("counter", "replays_total", "Replays asked of engines.", "outcome")
FOLLOWED: Final = events("gauge", "followed_endpoints", "Endpoints whose engines are followed.")
LIVE: Final = events("gauge", "live_endpoints", "Endpoints whose events arrive without a gap.")
BLOCKS: Final = events("gauge", "index_size", "Blocks engines hold, once for each and its tiers.")
TOKENS_BY: Final = Spec(
    "llm_d_epp_prompt_tokens_source_total",
    "counter",
    "Requests by who told their tokens: request, render, render-prefix, tokenize, local; "
    "bytes: nobody.",
    ("source",),
)


class KvMetrics:
    """Asks `state` at each scrape; None where nothing is followed."""

    def __init__(self, state: Callable[[], KvState | None]) -> None:
        self._state = state

    def collect(self, *, old_names: bool) -> Iterator[Metric]:
        state = self._state()
        if state is not None:
            for family in kv_families_of(state):
                yield from family.collect(old_names=old_names)


def kv_families_of(state: KvState) -> Iterator[Family[Tally]]:
    """Every family of `state`."""
    for name, spec in COUNTS.items():
        yield single(spec, state.counts.get(name, 0))
    yield by_label(REPLAYS, state.replays)
    yield single(FOLLOWED, state.followed)
    yield single(LIVE, state.live)
    yield single(BLOCKS, state.blocks)
    yield by_label(TOKENS_BY, state.tokens_by)


def single(spec: Spec, value: float) -> Family[Tally]:
    family = tallies(spec)
    family.bind().set(value)
    return family


def by_label(spec: Spec, values: Mapping[str, int]) -> Family[Tally]:
    family = tallies(spec)
    for label, value in values.items():
        family.bind(label).set(value)
    return family
