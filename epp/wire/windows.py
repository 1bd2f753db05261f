"""HTTP/2 flow control (RFC 9113 section 5.2), both ways.

Inbound, a `ReceiveWindow` per stream and one per connection says how much more the peer may send.
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


class ReceiveWindow:
    """How much the peer may still send, and how much of what came may be given back.

    Bytes return to the peer as soon as they are read, except those that `hold` kept and `release`
    has not let go: so a budget for held bodies steers the window, and an unfinished message never
    waits for itself. `due` is below zero while more is held than was read since.
    """

    __slots__ = ("_half", "due", "held", "remaining")

    def __init__(self, size: int) -> None:
        self.remaining = size
        self.due = 0
        self.held = 0
        self._half = size >> 1

    def hold(self, size: int) -> None:
        """Keep `size` bytes that were read from going back."""
        self.held += size
        self.due -= size

    def release(self, size: int) -> int:
        """Let `size` held bytes go back, at most what is held; returns what `credit` does."""
        size = min(size, self.held)
        self.held -= size
        return self.credit(size)

    def credit(self, size: int) -> int:
        """Give `size` bytes back; returns the increment to announce now, often 0.

        Half a window is saved up before it is announced: one WINDOW_UPDATE per half window, and
        a peer is never shut out while anything is due.
        """
        self.due += size
        if self.remaining > self._half or self.due <= 0:
            return 0
        due = self.due
        self.due = 0
        self.remaining += due
        return due


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
