"""Who of several leads: a core that says what to ask of a Lease next, and whether we lead now.

Safety rests on two measurements, each with the process's own monotonic clock. A leader counts its
time from before it sent the write that succeeded last; everybody else counts from after having seen
that write. So a leader stops at its renew deadline before another may begin at the end of the
lease, as long as no clock runs faster than another by the factor between the two (1.5 for 15 s and
10 s). The resourceVersion fences writes: one that arrives late changes nothing.
"""

import math
import random
from dataclasses import dataclass
from typing import Final, TypeAlias

from epp.errors import ConfigError

REST_AFTER_CONFLICT: Final = 0.1
RELEASE_SECONDS: Final = 2.0
"""A process on its way out waits no longer for an API server that does not answer."""
NEVER: Final = -math.inf


@dataclass(slots=True, frozen=True)
class Terms:
    """Seconds: how long a lease holds, until when a leader must have renewed, how often it tries.

    Raises ConfigError, naming the flags, when they leave no room for clocks that drift.
    """

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    def __post_init__(self) -> None:
        problems = []
        if self.duration < 1:
            problems.append("--leader-elect-lease-duration: must be 1s or more")
        if self.renew_deadline > 0.9 * self.duration:
            problems.append(
                "--leader-elect-renew-deadline: must be at most 0.9 of"
                " --leader-elect-lease-duration"
            )
        if not 0 < self.retry_period <= self.renew_deadline / 2:
            problems.append(
                "--leader-elect-retry-period: must be at most half of --leader-elect-renew-deadline"
            )
        if problems:
            raise ConfigError(problems)


@dataclass(slots=True, frozen=True)
class Record:
    """A Lease as it was seen; `version` is its resourceVersion, an empty holder is nobody."""

    holder: str
    duration: float
    transitions: int
    version: str


@dataclass(slots=True, frozen=True)
class Read:
    """Get the lease within `timeout` seconds."""

    timeout: float


@dataclass(slots=True, frozen=True)
class Write:
    """Make this the lease, if `version` is still the present one; None creates it."""

    holder: str
    transitions: int
    version: str | None
    acquires: bool
    timeout: float


@dataclass(slots=True, frozen=True)
class Rest:
    """Ask for nothing for so many seconds."""

    seconds: float


Ask: TypeAlias = Read | Write | Rest


class Elector:
    """One candidate. Each ask of `next` is answered by exactly one of the other methods."""

    def __init__(self, identity: str, terms: Terms, random_: random.Random) -> None:
        self.identity = identity
        self.terms = terms
        self._random = random_
        self._record: Record | None = None
        self._seen_at = NEVER
        self._known = False
        self._asked_at = NEVER
        self._leads_until = NEVER
        self._rests_until = NEVER
        self._retired = False

    @property
    def leads_until(self) -> float:
        """Until when we lead unless we renew; long past if we do not lead."""
        return self._leads_until

    @property
    def holder(self) -> str:
        """Who held the lease when it was last seen; empty for nobody."""
        return self._record.holder if self._record else ""

    def leading(self, now: float) -> bool:
        """Whether we lead at `now`: true of one candidate at most, whatever the others believe."""
        return now < self._leads_until

    def next(self, now: float) -> Ask:
        """What to ask for at `now`."""
        if now < self._rests_until or self._retired:
            return Rest(math.inf if self._retired else self._rests_until - now)
        self._asked_at = now
        if not self._known or not self._may_take(now):
            return Read(self._timeout(now))
        return self._claim(now)

    def _may_take(self, now: float) -> bool:
        record = self._record
        if record is None or record.holder in ("", self.identity):
            return True
        return now >= self._over_at()

    def _over_at(self) -> float:
        """When the lease of another is over, unless it is seen to change until then."""
        theirs = self._record.duration if self._record is not None else 0.0
        return self._seen_at + max(theirs, self.terms.duration)

    def _claim(self, now: float) -> Write:
        record = self._record
        if record is None:
            return Write(self.identity, 0, None, acquires=True, timeout=self._timeout(now))
        acquires = record.holder != self.identity
        return Write(
            self.identity,
            record.transitions + acquires,
            record.version,
            acquires=acquires,
            timeout=self._timeout(now),
        )

    def _timeout(self, now: float) -> float:
        """Room for a second try before the deadline."""
        half = self.terms.renew_deadline / 2
        if not self.leading(now):
            return half
        return max(min(half, self._leads_until - now), self.terms.retry_period / 2)

    # -- what came of it --------------------------------------------------------------------------

    def found(self, record: Record | None, now: float) -> None:
        """The lease was read; None where there is none."""
        if record is None or self._record is None or record.version != self._record.version:
            self._seen_at = now
        self._record = record
        self._known = True
        if record is None or record.holder != self.identity:
            self._leads_until = NEVER
        if not self._may_take(now):
            self._rest(now, self.terms.retry_period)
            self._rests_until = min(self._rests_until, self._over_at())

    def written(self, version: str, ask: Write, now: float) -> None:
        """The write `ask` is now the lease, as `version`: we lead, counted from when we asked."""
        self._record = Record(ask.holder, self.terms.duration, ask.transitions, version)
        self._seen_at = now
        self._leads_until = self._asked_at + self.terms.renew_deadline
        self._rests_until = self._asked_at + self.terms.retry_period

    def conflicted(self, now: float) -> None:
        """Somebody else has written in between: look again."""
        self._known = False
        self._rest(now, REST_AFTER_CONFLICT)

    def failed(self, now: float) -> None:
        """No answer, or no use: whether the write took effect is not known, so look again."""
        self._known = False
        self._rest(now, self.terms.retry_period / 2)

    def release(self, now: float) -> Write | None:
        """Lead no more, from this moment on; what to write so that others need not wait.

        None where the lease is not ours. If the write conflicts, `found` and `release` once more.
        """
        self._retired = True
        self._leads_until = NEVER
        record = self._record
        if record is None or record.holder != self.identity:
            return None
        timeout = min(self.terms.renew_deadline / 2, RELEASE_SECONDS)
        return Write("", record.transitions, record.version, acquires=False, timeout=timeout)

    def _rest(self, now: float, seconds: float) -> None:
        self._rests_until = now + seconds * self._random.uniform(0.8, 1.2)
