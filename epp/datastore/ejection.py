"""When an endpoint that fails is left alone, and how it comes back.

    healthy --failures in a row--> ejected --time is up--> probation --successes--> healthy
                                      ^-----------one failure---------'

On probation an endpoint takes one request at a time; each success doubles that, until it would take
`FULL_AGAIN` and is healthy. Each ejection lasts twice as long as the one before.
"""

import enum
from typing import Final

from epp.datastore.settings import StoreSettings
from epp.domain.response import Ending

FULL_AGAIN: Final = 64
ABOUT_THE_REQUEST: Final = (501, 505)


class Health(enum.Enum):
    """How far an endpoint is trusted."""

    HEALTHY = "healthy"
    EJECTED = "ejected"
    PROBATION = "probation"


def verdict(ending: Ending, status: int | None) -> bool | None:
    """What an ending says of the endpoint: True good, False bad, None nothing.

    Bad is what the endpoint answers for: 5xx, or no answer at all. A client that left, a drain and
    our own faults say nothing, unless a status had come. Nor do 501 and 505 say anything: they are
    about what was asked for.
    """
    if status in ABOUT_THE_REQUEST:
        return None
    if ending is Ending.UPSTREAM_ERROR or (status is not None and status >= 500):
        return False
    if ending is Ending.COMPLETE or status is not None:
        return True
    return None


class Breaker:
    """The trust in one endpoint. Methods return whether who may be picked could have changed."""

    __slots__ = ("_settings", "failures", "health", "limit", "trips", "until")

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self.health = Health.HEALTHY
        self.failures = 0
        self.trips = 0
        self.until = 0.0
        self.limit = 0
        """Requests at a time while on probation."""

    @property
    def ejected(self) -> bool:
        return self.health is Health.EJECTED

    @property
    def on_probation(self) -> bool:
        """Whether each request more or less there changes who may be picked."""
        return self.health is Health.PROBATION

    def admits(self, inflight: int) -> bool:
        """Whether one more request may go there now."""
        if self.health is Health.HEALTHY:
            return True
        return self.health is Health.PROBATION and inflight < self.limit

    def succeeded(self) -> bool:
        """A request ended well."""
        self.failures = 0
        if self.health is not Health.PROBATION:
            return False
        self.limit *= 2
        if self.limit >= FULL_AGAIN:
            self.health, self.trips = Health.HEALTHY, 0
        return True

    def failed(self, now: float, *, may_eject: bool) -> bool:
        """A request ended badly; `may_eject` False while too much of the pool is ejected."""
        self.failures += 1
        if self.health is Health.PROBATION:
            self.limit = 1
        elif self.health is Health.EJECTED or not self._is_enough():
            return False
        if may_eject:
            self._eject(now)
        return True

    def _is_enough(self) -> bool:
        return 0 < self._settings.eject_after <= self.failures

    def _eject(self, now: float) -> None:
        lasts = self._settings.eject_for * 2.0 ** min(self.trips, 32)
        self.until = now + min(lasts, self._settings.eject_for_most)
        self.trips += 1
        self.health = Health.EJECTED

    def let_back(self) -> None:
        """End an ejection: one request at a time from here."""
        self.health, self.limit = Health.PROBATION, 1
