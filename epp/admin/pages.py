"""What the debug pages say: their JSON, as types. Schemas are made of these and published.

Times are seconds; `age` is null where there was no good scrape yet.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from epp.observe.compared import Compared
from epp.observe.decisions import DecisionRecord


class Gauges(msgspec.Struct, frozen=True):
    """Gauges of one endpoint; null where nothing is known."""

    waiting: float | None = None
    running: float | None = None
    kv_usage: float | None = None


class EndpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint: what was scraped, and what scheduling believes after correction."""

    name: str
    namespace: str
    address: str
    ready: bool
    fresh: bool
    ejected: bool = False
    age: float | None = None
    """Since the last good scrape began."""
    raw: Gauges = Gauges()
    corrected: Gauges = Gauges()
    inflight_requests: int = 0
    inflight_tokens: int = 0
    prefill_rate: float = 0.0
    """Prompt tokens a second, learned."""
    slowness: float = 1.0
    """What its work takes over what it takes elsewhere, learned; 1 among equals."""
    labels: Mapping[str, str] = {}
    columns: Mapping[str, float] = {}
    """Columns of plugins."""


class EndpointsPage(msgspec.Struct, frozen=True):
    """/debug/endpoints"""

    pool: str
    endpoints: tuple[EndpointRow, ...] = ()


class OpenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A placed request whose response is not over."""

    id: str
    endpoint: str
    age: float
    """Since its arrival."""
    client_id: str = ""
    model: str = ""
    status: int = 0
    """0 until the response's headers have come."""
    first_token: bool = False


class QueuedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request waiting for admission."""

    id: str
    age: float
    model: str = ""
    priority: int = 0
    fairness_id: str = ""
    workload_id: str = ""
    criticality: int = 3
    position: int = 0
    """In the queue: 1 is next by priority and order; 0 is not queued (it waits for facts)."""
    queued_for: float | None = None
    """Since it came to the queue; null where it is not queued."""


class RequestsPage(msgspec.Struct, frozen=True):
    """/debug/requests. The counts are of all; the lists hold the oldest of them."""

    open_count: int = 0
    queued_count: int = 0
    held_bytes: int = 0
    open: tuple[OpenRequest, ...] = ()
    queued: tuple[QueuedRequest, ...] = ()


class DecisionsPage(msgspec.Struct, frozen=True):
    """/debug/decisions?id=ID or ?last=N, newest first."""

    decisions: tuple[DecisionRecord, ...] = ()


class PrefixIndex(msgspec.Struct, frozen=True):
    """What one producer believes to be cached at an endpoint."""

    plugin: str
    blocks: int
    block_tokens: int = 0
    capacity_blocks: int = 0


class PrefixPage(msgspec.Struct, frozen=True):
    """/debug/prefix?endpoint=NAME"""

    endpoint: str
    indexes: tuple[PrefixIndex, ...] = ()


class FollowedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint whose engine's cache is followed by its events."""

    endpoint: str
    events_address: str = ""
    """Where its events are fetched; empty where its engine dials."""
    linked: bool = False
    live: bool = False
    """Whether its events arrive without a gap."""
    replays: bool = False
    next: int | None = None
    """The number of its next batch; null while there was none."""
    age: float | None = None
    """Since its last batch."""
    blocks: int = 0
    block_tokens: int = 0
    """Tokens in a block of the index for it; 0 while its events have not said."""
    engine_block_tokens: int = 0
    """The same as its metrics say; 0 where they do not."""
    resets: Mapping[str, int] = {}
    """How often what was known of it was given up, by why."""


class KvEventsPage(msgspec.Struct, frozen=True, kw_only=True):
    """/debug/kvevents"""

    configured: bool = False
    endpoints: tuple[FollowedRow, ...] = ()
    counts: Mapping[str, int] = {}
    tokens_by: Mapping[str, int] = {}
    """Requests by who told their tokens."""
    rendering: str = ""
    """Why the last prompt an engine was asked about has no tokens; empty where it has."""
    compared: tuple[Compared, ...] = ()
    """The last requests whose usage was seen, newest last."""


class ConfigPage(msgspec.Struct, frozen=True):
    """/debug/config: the configuration in force and where it came from."""

    source: str
    effective: Mapping[str, Any] = {}
    warnings: tuple[str, ...] = ()
    reloads: int = 0


class TaskRow(msgspec.Struct, frozen=True):
    """One task of the event loop and the line it waits at."""

    name: str
    coroutine: str
    where: str = ""


class TasksPage(msgspec.Struct, frozen=True):
    """/debug/tasks"""

    tasks: tuple[TaskRow, ...] = ()


class Problem(msgspec.Struct, frozen=True):
    """What a debug page answers instead when it cannot."""

    error: str


PAGES: Final[Mapping[str, type[msgspec.Struct]]] = {
    "endpoints": EndpointsPage,
    "requests": RequestsPage,
    "decisions": DecisionsPage,
    "prefix": PrefixPage,
    "config": ConfigPage,
    "kvevents": KvEventsPage,
    "tasks": TasksPage,
}


def schema(page: str) -> dict[str, Any]:
    """The JSON schema (2020-12) of a page. Raises KeyError for a page there is not."""
    made: dict[str, Any] = msgspec.json.schema(PAGES[page])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": page, **made}
