"""Streams of an HTTP/2 connection (RFC 9113 section 5.1): open ones, and how past ones ended."""

from __future__ import annotations

import enum
from collections import OrderedDict
from typing import Protocol

from epp.wire.windows import Lane, ReceiveWindow


class End(enum.Enum):
    """How a stream ended, as far as it decides what its late frames mean."""

    BOTH_SIDES = "both sides said all they had to say"
    RESET_HERE = "we reset it, the peer may not know yet"
    RESET_THERE = "the peer reset it"


class Receiver(Protocol):
    """Who hears the events of one stream."""

    def data(self, buffer: bytes, start: int, end: int) -> None:
        """buffer[start:end] arrived: never empty, valid during the call only."""

    @property
    def growing(self) -> bool:
        """Whether what comes now is collected, and its sender may be made to wait."""

    def half_closed(self) -> None:
        """The peer will send no more data."""

    def reset(self, by_peer: bool) -> None:
        """The stream is over, by RST_STREAM or for a fault of the peer's."""

    def lost(self) -> None:
        """The stream is over because the connection is."""

    def resumed(self) -> None:
        """`Stream.full` has become false."""

    def tick(self, now: float) -> None:
        """Time passed."""

    def stopping(self) -> None:
        """The drain's deadline has come: last chance to answer."""


class Stream(Lane):
    """One request and its answer."""

    __slots__ = ("answered", "awaited", "inbound", "local_open", "receiver", "remote_open")

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        super().__init__(stream_id, send_window)
        self.inbound = ReceiveWindow(receive_window)
        self.remote_open = True
        self.local_open = True
        self.answered = False
        self.awaited = -1
        """What content-length still promises, -1 without one."""
        self.receiver: Receiver | None = None

    @property
    def growing(self) -> bool:
        """Whether the peer is in the middle of a request that is collected here."""
        return self.remote_open and self.receiver is not None and self.receiver.growing


class Graves:
    """How the last streams ended; older ones are forgotten."""

    __slots__ = ("_ends", "_most")

    def __init__(self, most: int) -> None:
        self._ends: OrderedDict[int, End] = OrderedDict()
        self._most = most

    def bury(self, stream_id: int, how: End) -> None:
        self._ends[stream_id] = how
        if len(self._ends) > self._most:
            self._ends.popitem(last=False)

    def how(self, stream_id: int) -> End | None:
        """How a stream ended, None when that is not known any more."""
        return self._ends.get(stream_id)


class Streams(dict[int, Stream]):
    """The open streams of a connection by their ids, and what is known of past ones."""

    __slots__ = ("gone", "last")

    def __init__(self, remembered: int) -> None:
        super().__init__()
        self.gone = Graves(remembered)
        self.last = 0
        """The highest id the client has used."""

    def never_opened(self, stream_id: int) -> bool:
        """Whether the client cannot have opened this one: not yet, or not at all."""
        return stream_id > self.last or not stream_id & 1
