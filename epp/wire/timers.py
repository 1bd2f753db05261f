"""What has taken too long on a connection: the greeting, a frame, an answer to a PING, idleness.

Nothing here waits: `check` and the questions are asked with the time of the moment, a few times a
second, by the connection's `tick`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from epp.wire.frames import ConnectionFault, ErrorCode

if TYPE_CHECKING:
    from epp.wire.frames import FrameReader
    from epp.wire.limits import Counters, Limits


class Timers:
    """The times of one connection; `last_read` and the like are kept up to date by its owner."""

    __slots__ = (
        "_born",
        "_counters",
        "_frame_since",
        "_frames_then",
        "_limits",
        "_ping_sent",
        "block_since",
        "last_read",
        "last_stream_end",
        "settings_acknowledged",
    )

    def __init__(self, limits: Limits, counters: Counters, now: float) -> None:
        self._limits = limits
        self._counters = counters
        self._born = now
        self._frame_since = now
        self._frames_then = 0
        self._ping_sent: float | None = None
        self.last_read = now
        self.last_stream_end = now
        self.block_since: float | None = None
        """When a header block was begun that has not ended."""
        self.settings_acknowledged = False

    def check(self, reader: FrameReader, now: float) -> None:
        """Raises ConnectionFault when the peer let a time pass."""
        self._check_greeting(reader, now)
        self._check_partial(reader, now)
        if self._ping_sent is not None:
            self._check_keepalive(self._ping_sent, now)

    def keepalive_due(self, now: float) -> bool:
        """True once when the peer was silent so long that it has to be asked."""
        silent = now - self.last_read
        if self._ping_sent is not None or not passed(silent, self._limits.keepalive_interval):
            return False
        self._ping_sent = now
        return True

    def idle_too_long(self, now: float) -> bool:
        """True when a connection without streams has had none for too long."""
        return passed(now - self.last_stream_end, self._limits.idle_timeout)

    def _check_greeting(self, reader: FrameReader, now: float) -> None:
        limits = self._limits
        waited = now - self._born
        if reader.frames == 0:
            if passed(waited, limits.handshake_timeout):
                self._counters.handshake_timeouts += 1
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no SETTINGS in time")
        elif not self.settings_acknowledged and passed(waited, limits.settings_timeout):
            self._counters.settings_timeouts += 1
            raise ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "SETTINGS not acknowledged")

    def _check_partial(self, reader: FrameReader, now: float) -> None:
        """A frame or header block that was begun must end in time, however slowly it drips."""
        if reader.frames != self._frames_then or not reader.partial:
            self._frames_then = reader.frames
            self._frame_since = now
        begun = self._frame_since
        if self.block_since is not None:
            begun = min(begun, self.block_since)
        if passed(now - begun, self._limits.frame_timeout):
            self._counters.frame_timeouts += 1
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "frame begun and not ended")

    def _check_keepalive(self, sent: float, now: float) -> None:
        if self.last_read >= sent:
            self._ping_sent = None
        elif now - sent >= self._limits.keepalive_timeout:
            self._counters.keepalive_timeouts += 1
            raise ConnectionFault(ErrorCode.NO_ERROR, "keepalive not answered")


def passed(waited: float, limit: float) -> bool:
    """True when a limit was waited out; a limit of 0 never is."""
    return 0 < limit <= waited
