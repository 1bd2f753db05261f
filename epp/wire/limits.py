"""What a peer may ask of a connection, and counts of what peers did.

Every limit has a default that a well-behaved Envoy or gRPC client never meets. A rate is a number
of events in one `Limits.interval`. How a command line sets them is in `tuning`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

from epp.wire.frames import (
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    LARGEST_FRAME_SIZE,
)

_MOST: Final = 1 << 30
_WEEK: Final = 7 * 24 * 3_600.0
_RANGES: Final = {
    "max_connections": (1, _MOST),
    "max_streams": (1, _MOST),
    "max_frame_size": (DEFAULT_FRAME_SIZE, LARGEST_FRAME_SIZE),
    "stream_window": (DEFAULT_FRAME_SIZE, _MOST),
    "connection_window": (DEFAULT_WINDOW, _MOST),
    "max_message_size": (0, math.inf),
    "max_assembling": (0, math.inf),
    "max_queued": (0, 1 << 40),
    "slowest_rate": (1, _MOST),
    "interval": (0.1, 3_600.0),
    "keepalive_timeout": (0.1, _WEEK),
}
"""Where a limit may lie, ends included, unless 0 to a lot will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one connection; sizes in bytes, times in seconds. 0 turns a time limit off.

    Raises ValueError with every value that lies outside its `range_of`.
    """

    max_connections: int = 1_024
    """Of the server: the one more is closed at once."""
    max_streams: int = 1_000
    max_frame_size: int = DEFAULT_FRAME_SIZE
    stream_window: int = 1 << 20
    connection_window: int = 16 << 20

    window_patience: float = 1.0
    """How long a stream's window is withheld while held bodies are near their budget."""

    max_message_size: int = 16 << 20
    max_assembling: int = 64 << 20
    """Bytes of unfinished messages, all streams of a connection together."""

    high_water: int = 256 << 10
    """Queued bytes of one stream above which a call is not writable, until half is gone."""
    max_queued: int = 128 << 20
    """Queued bytes of a connection above which the stream that adds more is cut."""

    max_header_list: int = 32 << 10
    """Size of a decoded header list as RFC 9113 section 6.5.2 counts it: 32 more per field."""
    max_header_block: int = 32 << 10
    max_continuations: int = 8
    remembered_blocks: int = 64 << 10
    """Memory for header blocks already read, per connection; 0 remembers none."""

    interval: float = 10.0
    max_resets: int = 2_000
    """Streams reset before they were answered, by the client or for the client's fault."""
    max_refused: int = 2_000
    max_pings: int = 500
    max_settings: int = 100
    max_empty_data: int = 500
    max_priorities: int = 4_000
    max_window_updates: int = 4_000
    """On top of four for each DATA frame that was sent."""
    max_unknown: int = 500
    """Frames of unknown types, and stray frames on streams that are over."""

    handshake_timeout: float = 10.0
    settings_timeout: float = 30.0
    frame_timeout: float = 30.0
    """For a frame or a header block that was begun."""
    message_timeout: float = 60.0
    """For a message that was begun, and a second more for each `slowest_rate` bytes of it."""
    slowest_rate: int = 16 << 10
    stall_timeout: float = 60.0
    """For queued bytes of which the peer takes none."""
    idle_timeout: float = 3_600.0
    keepalive_interval: float = 120.0
    keepalive_timeout: float = 20.0
    drain_grace: float = 1.0
    """Between the two steps of a drain, when the client's PING answer does not come sooner."""

    def __post_init__(self) -> None:
        problems = []
        for name in LIMIT_NAMES:
            least, most = range_of(name)
            if not least <= (value := getattr(self, name)) <= most:
                problems.append(f"{name} is {value}; give {least} to {most}")
        if problems:
            raise ValueError("; ".join(problems))


def range_of(name: str) -> tuple[float, float]:
    """The least and the most a limit may be. Raises KeyError for a name that is none."""
    return _RANGES.get(name) or ((0.0, _WEEK) if TIMES[name] else (0, _MOST))


TIMES: Final = {field.name: field.type == "float" for field in fields(Limits)}
"""Each limit's name, and whether it is in seconds."""
LIMIT_NAMES: Final = tuple(TIMES)


@dataclass(slots=True)
class Counters:
    """What happened, for one connection or, merged, for a server. Only ever grows."""

    connections: int = 0
    connections_refused: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    frames_in: int = 0
    data_frames_out: int = 0
    streams: int = 0
    streams_refused: int = 0
    resets_in: int = 0
    resets_out: int = 0
    unanswered_resets: int = 0
    messages_in: int = 0
    messages_out: int = 0
    calls_ok: int = 0
    calls_failed: int = 0
    handler_faults: int = 0
    blocks_decoded: int = 0
    blocks_remembered: int = 0
    malformed_requests: int = 0
    header_lists_too_large: int = 0
    pings_in: int = 0
    settings_in: int = 0
    empty_data_in: int = 0
    priorities_in: int = 0
    window_updates_in: int = 0
    unknown_in: int = 0
    floods: int = 0
    protocol_faults: int = 0
    messages_too_large: int = 0
    queues_overrun: int = 0
    deadlines: int = 0
    handshakes_failed: int = 0
    """TLS handshakes that failed or took too long."""
    handshake_timeouts: int = 0
    """Connections that sent no SETTINGS in time."""
    settings_timeouts: int = 0
    frame_timeouts: int = 0
    message_timeouts: int = 0
    stalls: int = 0
    idle_timeouts: int = 0
    keepalive_timeouts: int = 0

    def add(self, other: Counters) -> None:
        """Merge a connection's counts into these."""
        for name in _COUNTER_NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_COUNTER_NAMES = tuple(field.name for field in fields(Counters))
