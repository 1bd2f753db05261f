"""Taking sheddable requests back for work of higher priority that waits.

A gateway lets its picker answer a request as long as the endpoint has not: so only requests whose
response has not begun are taken back, those placed last first. It is bounded: somebody has waited
for `PATIENCE`, what is thrown away is at most `YOUNG` old, `AT_ONCE` at a time, then a `PAUSE` in
which room shows and whoever waits gets it.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Reversible, Sequence
from typing import Final, Generic, Never, Protocol, TypeVar

from epp.admission.room import Levels
from epp.domain.endpoint import Endpoint
from epp.domain.request import Request
from epp.domain.waiting import Waiting
from epp.errors import Evicted, Refused

PATIENCE: Final = 0.25
"""Seconds for which somebody has to have waited. All of these times in seconds."""
YOUNG: Final = 5.0
"""Who has been placed for longer keeps its place: what it has cost is not thrown away."""
AT_ONCE: Final = 2
PAUSE: Final = 0.5
AGAIN: Final = 0.05
"""Between two looks through those that run: 5,000 of them take 2 ms, and each end is news."""


class Running(Protocol):
    """A placed request."""

    @property
    def request(self) -> Request: ...

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def status(self) -> int:
        """Of its response, 0 before that has begun."""
        ...

    @property
    def since(self) -> float:
        """When it was placed."""
        ...


R = TypeVar("R", bound=Running)


def nobody() -> Sequence[Never]:
    return ()


def never(running: Running, why: Refused) -> bool:
    return False


class Eviction(Generic[R]):
    """Who is taken back, and how often. Does nothing until it is connected."""

    def __init__(self) -> None:
        self._runs: Callable[[], Reversible[R]] = nobody
        self._revoke: Callable[[R, Refused], bool] = never
        self._not_before = -math.inf
        self._look_again = -math.inf

    def connect(
        self, runs: Callable[[], Reversible[R]], revoke: Callable[[R, Refused], bool]
    ) -> None:
        """`runs` gives everybody who is placed, in the order of placing.

        `revoke` ends a request and tells its client why; False where its response has begun.
        """
        self._runs, self._revoke = runs, revoke

    def due(self, head: Waiting) -> float:
        """From when on somebody may be taken back for `head`."""
        return max(head.since + PATIENCE, self._not_before)

    def make_room(
        self, head: Waiting, levels: Levels, ceiling: float, why: Evicted, now: float
    ) -> Sequence[Request]:
        """Take back whoever stands in the way of `head`; returns who that was, often nobody."""
        if now < max(self.due(head), self._look_again):
            return ()
        self._look_again = now + AGAIN
        victims = self._victims(head.priority, now)
        if not victims:
            return ()
        taken = [
            victim.request
            for victim in cheapest(victims, levels.surplus(head.request.subset, ceiling))
            if self._revoke(victim, why)
        ]
        if taken:
            self._not_before = now + PAUSE
        return taken

    def _victims(self, above: int, now: float) -> Mapping[str, list[R]]:
        """By endpoint: the lowest priority first, of one priority who was placed last."""
        found: dict[str, list[R]] = defaultdict(list)
        for each in reversed(self._runs()):
            if now - each.since > YOUNG:
                break
            if each.request.priority < min(above, 0) and not each.status:
                found[each.endpoint.key].append(each)
        for those in found.values():
            those.sort(key=lambda each: each.request.priority)
        return found


def cheapest(victims: Mapping[str, Sequence[R]], surplus: Mapping[str, float]) -> Sequence[R]:
    """Of one endpoint, as few as make room there; nobody where more than `AT_ONCE` would have to.

    `surplus` says how many requests too many each endpoint has that could serve: a place is free
    when it is below 0.
    """
    needed = {key: math.floor(count) + 1 for key, count in surplus.items() if key in victims}
    able = [key for key, few in needed.items() if few <= min(AT_ONCE, len(victims[key]))]
    if not able:
        return ()
    best = min(able, key=lambda key: (needed[key], victims[key][0].request.priority))
    return victims[best][: max(needed[best], 1)]
