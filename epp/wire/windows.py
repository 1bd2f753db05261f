"""HTTP/2 flow control (RFC 9113 section 5.2), both ways.

Inbound, a `ReceiveWindow` per stream and one per connection says how much more the peer may send,
and `Withheld` which streams must wait for more while too much is held.
Outbound, an `Outbox` per connection cuts data into frames as the peer's windows allow and queues
the rest, one `Lane` per stream.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from epp.wire.frames import (
    DATA,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_STREAM,
    LARGEST_WINDOW,
    frame_header,
    header_frames,
    reset_frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from epp.wire.budget import Backlog
    from epp.wire.streams import Stream


class ReceiveWindow:
    """How much the peer may still send, and how much of what came is due to it.

    Bytes are due as soon as they are read. Half a window is saved up before it is announced: one
    WINDOW_UPDATE per half window, and a peer is never shut out while anything is due, unless a
    stream's window is `Withheld`.
    """

    __slots__ = ("_half", "due", "remaining")

    def __init__(self, size: int) -> None:
        self.remaining = size
        self.due = 0
        self._half = size >> 1

    def credit(self, size: int) -> int:
        """Note `size` bytes as due; returns the increment to announce now, often 0."""
        self.due += size
        if self.remaining > self._half:
            return 0
        return self.announce()

    def owe(self, size: int) -> bool:
        """Note `size` bytes as due; true when they should be announced."""
        self.due += size
        return self.remaining <= self._half and self.due > 0

    def announce(self) -> int:
        """Everything that is due, as the increment to announce."""
        due, self.due = self.due, 0
        self.remaining += due
        return due


class Withheld:
    """Windows of streams that wait until what is held of requests leaves room for more.

    While the `Backlog` is high a stream whose request grows is widened no more: the rest of it
    stays with the peer. Small requests fit into a window and never wait. Nothing waits for ever:
    one stream of the connection goes on meanwhile, so that whoever holds half a body can finish
    and give it back; and after `patience` seconds each is widened once whatever is held, so that a
    request meets the budget, and its clear refusal, rather than its client's timeout.
    """

    __slots__ = ("_backlog", "_leader", "_patience", "waiting")

    def __init__(self, backlog: Backlog, patience: float) -> None:
        self._backlog = backlog
        self._patience = patience
        self._leader: Stream | None = None
        self.waiting: dict[Stream, float] = {}
        """Since when each waits, the first first."""

    def keeps(self, stream: Stream, now: float) -> bool:
        """Whether a stream whose window is due has to wait."""
        if not self._patience or not self._backlog.high or not stream.growing:
            self.waiting.pop(stream, None)
            return False
        if self._leader is None or not self._leader.growing:
            self._leader = stream
        if stream is self._leader:
            return False
        self.waiting.setdefault(stream, now)
        return True

    def let_go(self, now: float) -> list[Stream]:
        """Streams that wait no more, to be widened if they still take anything."""
        if not self._backlog.high:
            go = list(self.waiting)
        else:
            go = [s for s, since in self.waiting.items() if now - since >= self._patience]
            if not go and (self._leader is None or not self._leader.growing):
                self._leader = next(iter(self.waiting))
                go = [self._leader]
        for stream in go:
            del self.waiting[stream]
        return go


class Lane:
    """The outgoing side of one stream."""

    __slots__ = ("full", "queue", "queued", "stream_id", "stuck_since", "trailers", "window")

    def __init__(self, stream_id: int, window: int) -> None:
        self.stream_id = stream_id
        self.window = window
        self.queue: deque[bytes | memoryview] | None = None
        self.queued = 0
        self.trailers: bytes | None = None
        self.full = False
        self.stuck_since = -1.0


class Outbox:
    """What leaves a connection: frames ready to be written, and lanes that wait for a window.

    `on_finished(lane)` is called when a lane's END_STREAM was written, `on_resumed(lane)` when a
    lane that was full has room again.
    """

    __slots__ = (
        "_high_water",
        "_on_finished",
        "_on_resumed",
        "blocked",
        "data_frames",
        "frame_size",
        "initial_window",
        "queued",
        "ready",
        "waiting",
        "window",
    )

    def __init__(
        self,
        high_water: int,
        on_finished: Callable[[Lane], None],
        on_resumed: Callable[[Lane], None],
    ) -> None:
        self.ready: list[bytes | memoryview] = []
        self.window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.frame_size = DEFAULT_FRAME_SIZE
        self.blocked = False
        self.queued = 0
        self.data_frames = 0
        self.waiting: dict[int, Lane] = {}
        self._high_water = high_water
        self._on_finished = on_finished
        self._on_resumed = on_resumed

    def data(self, lane: Lane, prefix: bytes, payload: bytes) -> None:
        """Send prefix + payload on a lane now, or as much as fits and the rest later."""
        size = len(prefix) + len(payload)
        if (
            size <= lane.window
            and size <= self.window
            and size <= self.frame_size
            and not lane.queue
            and not self.blocked
        ):
            lane.window -= size
            self.window -= size
            self.data_frames += 1
            self.ready.append(frame_header(size << 8, 0, lane.stream_id) + prefix)
            self.ready.append(payload)
            return
        self._enqueue(lane, prefix, payload)
        self._pump(lane)
        self._after_pump(lane)

    def finish(self, lane: Lane, block: bytes) -> None:
        """End a lane after everything that is queued, with a header block or, empty, without."""
        if lane.queue:
            lane.trailers = block
            return
        if block:
            self.ready.append(header_frames(lane.stream_id, block, self.frame_size, END_STREAM))
        else:
            self.ready.append(frame_header(DATA, END_STREAM, lane.stream_id))
        self._on_finished(lane)

    def headers(self, lane: Lane, block: bytes) -> None:
        self.ready.append(header_frames(lane.stream_id, block, self.frame_size, 0))

    def reset(self, stream_id: int, code: int) -> None:
        self.ready.append(reset_frame(stream_id, code))

    def discard(self, lane: Lane) -> None:
        """Forget what a lane has queued: its stream is over."""
        if self.waiting.pop(lane.stream_id, None) is not None:
            self.queued -= lane.queued
        lane.queue = None
        lane.queued = 0
        lane.trailers = None

    def opened(self, lane: Lane, increment: int) -> bool:
        """Widen a lane's window; false when it would overflow."""
        if lane.window + increment > LARGEST_WINDOW:
            return False
        lane.window += increment
        if lane.queue:
            self._pump(lane)
            self._after_pump(lane)
        return True

    def opened_all(self, increment: int) -> bool:
        """Widen the connection's window; false when it would overflow."""
        if self.window + increment > LARGEST_WINDOW:
            return False
        shut = self.window <= 0
        self.window += increment
        if shut:
            self.pump_all()
        return True

    def pump_all(self) -> None:
        """Let waiting lanes send in turn, one frame each, until no window is left."""
        moved: dict[int, Lane] = {}
        moving = [lane for lane in self.waiting.values() if lane.window > 0]
        while moving and self.window > 0 and not self.blocked:
            turn, moving = moving, []
            for lane in turn:
                if self.window <= 0:
                    break
                moved[lane.stream_id] = lane
                if self._send_frame(lane):
                    moving.append(lane)
        for lane in moved.values():
            self._take_turn(lane)
            self._after_pump(lane)

    def _take_turn(self, lane: Lane) -> None:
        """Who has just sent waits behind all others."""
        if self.waiting.pop(lane.stream_id, None) is not None:
            self.waiting[lane.stream_id] = lane

    def _enqueue(self, lane: Lane, prefix: bytes, payload: bytes) -> None:
        if lane.queue is None:
            lane.queue = deque()
        if prefix:
            lane.queue.append(prefix)
        if payload:
            lane.queue.append(payload)
        size = len(prefix) + len(payload)
        lane.queued += size
        self.queued += size
        self.waiting[lane.stream_id] = lane

    def _pump(self, lane: Lane) -> None:
        while self._send_frame(lane):
            pass

    def _send_frame(self, lane: Lane) -> bool:
        """Write one DATA frame of a lane; false when it may not or has nothing more."""
        room = min(lane.window, self.window, self.frame_size)
        if not lane.queue or room <= 0 or self.blocked:
            return False
        pieces, size = _taken(lane.queue, room)
        self.ready.append(frame_header(size << 8, 0, lane.stream_id))
        self.ready += pieces
        self.data_frames += 1
        self.window -= size
        self.queued -= size
        lane.window -= size
        lane.queued -= size
        lane.stuck_since = -1.0
        return bool(lane.queue)

    def _after_pump(self, lane: Lane) -> None:
        if not lane.queue:
            self.waiting.pop(lane.stream_id, None)
        if lane.queued > self._high_water:
            lane.full = True
        elif lane.full and lane.queued <= self._high_water >> 1:
            lane.full = False
            self._on_resumed(lane)
        if not lane.queue and lane.trailers is not None:
            block, lane.trailers = lane.trailers, None
            self.finish(lane, block)


def _taken(queue: deque[bytes | memoryview], room: int) -> tuple[list[bytes | memoryview], int]:
    """Take up to `room` bytes from the left of a queue, without copying them."""
    pieces: list[bytes | memoryview] = []
    left = room
    while queue and left:
        piece = queue.popleft()
        if len(piece) > left:
            view = memoryview(piece)
            queue.appendleft(view[left:])
            piece = view[:left]
        pieces.append(piece)
        left -= len(piece)
    return pieces, room - left
