"""What keeps predicted and reported cached tokens apart: a debug page in, findings out."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from epp.admin.pages import FollowedRow, KvEventsPage
from epp.observe.compared import Compared
from epp.tokens.blocks import own_block

ENOUGH: Final = 0.1
"""Share of an endpoint's requests that may miss before it is worth a word."""


class Finding(msgspec.Struct, frozen=True):
    """A broken condition: what, where, by which signs, and what to do."""

    condition: str
    where: str
    evidence: str
    fix: str


def diagnose(page: KvEventsPage) -> list[Finding]:
    """Every broken condition the page shows; empty where predictions come true."""
    if not page.configured:
        return [
            Finding(
                "no producer",
                "the configuration",
                "no plugin follows the engines' caches",
                "add precise-prefix-cache-producer to the plugins",
            )
        ]
    by_endpoint: dict[str, list[Compared]] = defaultdict(list)
    for one in page.compared:
        by_endpoint[one.endpoint].append(one)
    found = [
        finding
        for row in page.endpoints
        for finding in (*of_endpoint(row, by_endpoint), *of_requests(row, by_endpoint))
    ]
    return [*found, *of_tokens(page), *of_counts(page)]


def agreement(compared: Sequence[Compared], block: int = 64) -> float | None:
    """Share of requests whose cached tokens came within a block as predicted; None without any."""
    told = [one for one in compared if one.cached is not None]
    return sum(not misses(one, block) for one in told) / len(told) if told else None


def misses(one: Compared, block: int) -> bool:
    """Whether a prediction is off by more than a block."""
    return one.cached is not None and abs(one.predicted - one.cached) > block


# -- one endpoint ---------------------------------------------------------------------------------


def of_endpoint(row: FollowedRow, compared: dict[str, list[Compared]]) -> Iterable[Finding]:
    """What its link and its events show."""
    if not row.linked:
        yield Finding(
            "wrong address, or events off",
            row.endpoint,
            f"nothing answers at {row.events_address or 'the address engines dial'}",
            "start the engine with --kv-events-config, enable_kv_cache_events and an endpoint that"
            " listens (tcp://*:5557), and give its port as socketPort or on the label"
            " llm-d.ai/kv-events-port",
        )
    elif row.next is None and compared.get(row.endpoint):
        yield Finding(
            "events off",
            row.endpoint,
            f"{row.events_address} answers but has sent nothing, though requests were served",
            "check enable_kv_cache_events, prefix caching and topicFilter",
        )
    elif not row.live and row.next is not None:
        yield Finding(
            "replica behind",
            row.endpoint,
            f"batches before number {row.next} are missing",
            "give replaySocketPort, so that what was lost can be had again",
        )
    engine = own_block(row.engine_block_tokens) if row.engine_block_tokens else 0
    if engine and row.block_tokens and engine != row.block_tokens:
        yield Finding(
            "block size",
            row.endpoint,
            f"its events have blocks of {row.block_tokens} tokens, its metrics say"
            f" {row.engine_block_tokens}",
            "check that the events come from this endpoint's engine: address, port and rank",
        )


# -- its requests ---------------------------------------------------------------------------------


def of_requests(row: FollowedRow, compared: dict[str, list[Compared]]) -> Iterable[Finding]:
    """The most telling sign among the requests that missed."""
    requests = compared.get(row.endpoint, [])
    silent = [one for one in requests if one.cached is None]
    if requests and len(silent) == len(requests):
        yield Finding(
            "usage not reported",
            row.endpoint,
            f"none of {len(requests)} responses told its cached tokens",
            "start the engine with --enable-prompt-tokens-details",
        )
        return
    missed = [one for one in requests if misses(one, max(row.block_tokens, 16))]
    if missed and len(missed) >= ENOUGH * len(requests):
        condition, fix = cause(row, missed)
        yield Finding(condition, row.endpoint, evidence(missed, len(requests)), fix)


def cause(row: FollowedRow, missed: Sequence[Compared]) -> tuple[str, str]:
    """Which condition explains most of the misses, and what to do."""
    if mostly(one.tokens_by == "bytes" for one in missed):
        return "tokens unknown", (
            "configure token-producer with vllm or local: text matches by our own picks alone"
        )
    if mostly(one.tokens != one.reported_tokens for one in missed):
        return "template", (
            "prompts are rendered otherwise than the engine renders them: let the pool's own"
            " engines render (url: pool), with the same model and chat template"
        )
    if mostly(one.salted for one in missed):
        return "salt", "cache_salt must reach the engine as the client sent it"
    if mostly(bool(one.adapter) for one in missed):
        return "adapter", "the engine must name adapters in its events: vLLM 0.19 or newer"
    if mostly(not one.live for one in missed):
        return "replica behind", "its events do not arrive without gaps; give replaySocketPort"
    if mostly(one.predicted > (one.cached or 0) for one in missed):
        return "stale", (
            "the index holds what the engine has dropped: events are lost or come from another"
            " engine; check address, port and rank"
        )
    return "hash mismatch", (
        "the engine has blocks the index does not match: it started before the picker without"
        " replay, or its events carry other tokens than its prompts"
    )


def mostly(signs: Iterable[bool]) -> bool:
    """More than half."""
    told = list(signs)
    return sum(told) * 2 > len(told)


def evidence(missed: Sequence[Compared], requests: int) -> str:
    worst = max(missed, key=lambda one: abs(one.predicted - (one.cached or 0)))
    return (
        f"{len(missed)} of {requests} requests missed; request {worst.id}: {worst.predicted}"
        f" predicted, {worst.cached} cached, {worst.tokens} tokens by {worst.tokens_by},"
        f" {worst.reported_tokens} by the engine"
    )


# -- all endpoints --------------------------------------------------------------------------------


def of_tokens(page: KvEventsPage) -> Iterable[Finding]:
    """Whether engines tell the tokens of prompts."""
    if page.rendering:
        yield Finding(
            "rendering fails",
            "token-producer",
            page.rendering,
            "check url and timeout under vllm; engines render with --enable-scale-out where they"
            " know that flag",
        )


def of_counts(page: KvEventsPage) -> Iterable[Finding]:
    """What the counts of all events together show."""
    counts = page.counts
    stored, orphans = counts.get("stored", 0), counts.get("orphans", 0)
    if orphans > ENOUGH * (stored + orphans):
        yield Finding(
            "parents unknown",
            "all endpoints",
            f"{orphans} blocks hang from blocks never heard of, {stored} do not",
            "give replaySocketPort, so that a picker that starts late learns the beginnings",
        )
    if unread := counts.get("unread", 0):
        yield Finding(
            "dialect",
            "all endpoints",
            f"{unread} events could not be read",
            "engines newer than the picker? it reads vLLM 0.9 to 0.33 and SGLang",
        )
    if strangers := counts.get("unknown_sources", 0):
        yield Finding(
            "wrong topic",
            "all endpoints",
            f"{strangers} batches came from engines that are no endpoint of the pool",
            "engines that dial must publish under kv@<host>:<port>@<model> of their endpoint",
        )
