"""How often a peer may do what costs it nothing: each kind of frame has its rate.

`Meters` counts events into `Counters` and raises ConnectionFault, ENHANCE_YOUR_CALM, at the first
that is one too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from epp.wire.frames import ConnectionFault, ErrorCode

if TYPE_CHECKING:
    from epp.wire.limits import Counters, Limits

_MOST_EARNED: Final = 10_000
_UPDATES_PER_FRAME: Final = 4


class Rate:
    """Allows `most` events in each interval."""

    __slots__ = ("_interval", "_most", "_since", "_spent")

    def __init__(self, most: int, interval: float) -> None:
        self._most = most
        self._interval = interval
        self._since = float("-inf")
        self._spent = 0

    def exceeded(self, now: float) -> bool:
        """Count one event at `now`; true when it is one too many."""
        if now - self._since >= self._interval:
            self._since = now
            self._spent = 0
        self._spent += 1
        return self._spent > self._most


class Meters:
    """The rates of one connection. Every method counts one event at `now`."""

    def __init__(self, limits: Limits, counters: Counters) -> None:
        interval = limits.interval
        self._counters = counters
        self._resets = Rate(limits.max_resets, interval)
        self._refused = Rate(limits.max_refused, interval)
        self._pings = Rate(limits.max_pings, interval)
        self._settings = Rate(limits.max_settings, interval)
        self._empty_data = Rate(limits.max_empty_data, interval)
        self._priorities = Rate(limits.max_priorities, interval)
        self._window_updates = Rate(limits.max_window_updates, interval)
        self._unknown = Rate(limits.max_unknown, interval)
        self._earned_updates = 0
        self._sent_then = 0

    def unanswered_reset(self, now: float) -> None:
        """A stream was reset before it was answered, by the client or for its fault."""
        self._counters.unanswered_resets += 1
        self._spend(self._resets, now, "streams reset before they are answered")

    def refused(self, now: float) -> None:
        self._counters.streams_refused += 1
        self._spend(self._refused, now, "streams at once")

    def ping(self, now: float) -> None:
        self._counters.pings_in += 1
        self._spend(self._pings, now, "PING frames")

    def settings(self, now: float) -> None:
        self._counters.settings_in += 1
        self._spend(self._settings, now, "SETTINGS frames")

    def empty_data(self, now: float) -> None:
        self._counters.empty_data_in += 1
        self._spend(self._empty_data, now, "empty DATA frames")

    def priority(self, now: float) -> None:
        self._counters.priorities_in += 1
        self._spend(self._priorities, now, "PRIORITY frames")

    def unknown(self, now: float, what: str) -> None:
        """A frame that means nothing here; `what` names its kind in the plural."""
        self._counters.unknown_in += 1
        self._spend(self._unknown, now, what)

    def window_update(self, now: float, data_frames_sent: int) -> None:
        """What we sent earns its updates; only the rest can be a flood."""
        self._counters.window_updates_in += 1
        self._earned_updates += _UPDATES_PER_FRAME * (data_frames_sent - self._sent_then)
        self._sent_then = data_frames_sent
        if self._earned_updates > 0:
            self._earned_updates = min(self._earned_updates, _MOST_EARNED) - 1
        else:
            self._spend(self._window_updates, now, "WINDOW_UPDATE frames")

    def _spend(self, rate: Rate, now: float, what: str) -> None:
        if rate.exceeded(now):
            self._counters.floods += 1
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")
