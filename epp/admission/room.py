"""Which endpoints have room: how full each is, against a ceiling.

How full the pool is for a request is how full its emptiest endpoint is. Where prefill and decode
run on different endpoints a request needs one of each, so the fuller side counts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from epp.domain.endpoint import ROLE_LABEL
from epp.domain.pool import Floats, Mask, PoolView
from epp.domain.request import SubsetHint
from epp.points import SaturationDetector

DECODE: Final = frozenset({"", "decode", "prefill-decode", "both", "encode-prefill-decode"})
PREFILL: Final = frozenset(
    {"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"}
)
NO_ENDPOINT: Final = float("inf")

InSubset = Callable[[SubsetHint, PoolView], Mask]
Judge = Callable[[PoolView], Floats]
"""How full each endpoint of a view is."""


class Levels:
    """How full the pool is, for requests with and without a subset; for one moment."""

    __slots__ = (
        "_fullness",
        "_in_subset",
        "_judge",
        "_known",
        "_pool",
        "_roles",
        "saturation",
        "whole",
    )

    def __init__(
        self,
        pool: PoolView,
        fullness: Floats,
        roles: "Roles",
        within: InSubset,
        judge: Judge,
        saturation: float = 1.0,
    ) -> None:
        self._pool = pool
        self._judge = judge
        self._fullness = fullness
        self._roles = roles
        self._in_subset = within
        self._known: dict[SubsetHint, float] = {}
        self.whole = roles.level(fullness)
        self.saturation = saturation
        """Of the pool as a whole, for usage limits; an empty pool is saturated."""

    def of(self, subset: SubsetHint | None) -> float:
        """Of the endpoints a request may use: 0 idle, 1 full; infinite where there is none."""
        if subset is None or self.whole == NO_ENDPOINT:
            return self.whole
        level = self._known.get(subset)
        if level is None:
            mask = self._in_subset(subset, self._pool)
            # Nobody waits for an endpoint that is not there: placing says that there is none.
            level = self._level_within(mask) if mask.any() else 0.0
            self._known[subset] = level
        return level

    def _level_within(self, mask: Mask) -> float:
        sides = self._roles.sides(mask)
        fullness = by_themselves(self._judge, self._pool, self._fullness, sides)
        return self._roles.level(fullness, mask)

    def surplus(self, subset: SubsetHint | None, ceiling: float) -> Mapping[str, float]:
        """By key: how many of our requests too many an endpoint has under `ceiling`, -inf..inf.

        Of those a request with this subset may use. Empty where a request needs two endpoints:
        room on one of them helps nobody.
        """
        if self._roles.apart or not len(self._pool):
            return {}
        pool = self._pool
        usable = ~self._roles.others
        if subset is not None:
            usable &= self._in_subset(subset, pool)
        ours = pool.inflight_requests
        each = self._fullness / np.maximum(ours, 1)
        over = (self._fullness - ceiling) / np.maximum(each, 1e-9)
        rows = np.flatnonzero(usable & (ours > 0)).tolist()
        return {pool.endpoints[row].key: float(over[row]) for row in rows}

    def mask(self, pool: PoolView, ceiling: float) -> Mask | None:
        """Endpoints filled less than `ceiling`, bool; None if `pool` is not what was judged."""
        if pool.endpoints is not self._pool.endpoints:
            return None
        return (self._fullness < ceiling) | self._roles.others


class Roles:
    """Which endpoints decode and which prefill; made anew when the endpoints change."""

    __slots__ = ("_alike", "_parts", "endpoints", "others")

    def __init__(self, pool: PoolView) -> None:
        self.endpoints = pool.endpoints
        roles = [endpoint.labels.get(ROLE_LABEL, "") for endpoint in pool.endpoints]
        decode = np.array([role in DECODE for role in roles], dtype=np.bool_)
        prefill = np.array([role in PREFILL for role in roles], dtype=np.bool_)
        self.others: Mask = ~(decode | prefill)
        """Endpoints of other roles: nobody waits for them."""
        self._parts = [part for part in (decode, prefill) if part.any()]
        self._alike = bool(self._parts) and all(bool(part.all()) for part in self._parts)

    @property
    def apart(self) -> bool:
        """Whether prefill and decode run on different endpoints."""
        return len(self._parts) > 1 and not self._alike

    def sides(self, mask: Mask | None = None) -> list[Mask]:
        """Of each a request needs one endpoint, of those in `mask`; none is empty."""
        parts = self._parts if mask is None else [part & mask for part in self._parts]
        return [part for part in parts if part.any()]

    def level(self, fullness: Floats, mask: Mask | None = None) -> float:
        """The fuller of the two sides, each as full as its emptiest endpoint."""
        if not len(fullness):
            return NO_ENDPOINT
        if mask is None and self._alike:
            return float(fullness.min())
        return max((float(fullness[part].min()) for part in self.sides(mask)), default=0.0)


class Room:
    """Asks the detector; remembers who plays which role."""

    def __init__(self, detector: SaturationDetector, in_subset: InSubset) -> None:
        self._detector = detector
        self._in_subset = in_subset
        self._roles: Roles | None = None

    def levels(self, pool: PoolView) -> Levels:
        """How full everything is now."""
        if self._roles is None or self._roles.endpoints is not pool.endpoints:
            self._roles = Roles(pool)
        fullness = self.fullness(pool)
        saturation = mean_of_known(fullness, pool) if len(pool) else 1.0
        fullness = by_themselves(self.fullness, pool, fullness, self._roles.sides())
        return Levels(pool, fullness, self._roles, self._in_subset, self.fullness, saturation)

    def mask(self, pool: PoolView, ceiling: float) -> Mask:
        """Where a request may go that was let through under `ceiling`, bool, shape `(n,)`.

        Somewhere there is room for it; a detector with a method `brim` says which other endpoints
        may take it all the same, for the sake of what they have cached.
        """
        known = self._roles is not None and self._roles.endpoints is pool.endpoints
        roles = self._roles if known and self._roles else Roles(pool)
        brim: Judge = getattr(self._detector, "brim", self.fullness)
        filled = by_themselves(brim, pool, brim(pool), roles.sides())
        return (filled < ceiling) | roles.others

    def fullness(self, pool: PoolView) -> Floats:
        """By endpoint; a detector that only knows the pool says the same of each."""
        by_endpoint = getattr(self._detector, "fullness", None)
        if by_endpoint is None:
            return np.full(len(pool), self._detector.saturation(pool) if len(pool) else 1.0)
        fullness: Floats = by_endpoint(pool)
        return fullness


def by_themselves(judge: Judge, pool: PoolView, fullness: Floats, sides: Sequence[Mask]) -> Floats:
    """`fullness`, where no endpoint of a side has fresh gauges judged without those that have.

    Beside these it would count as full; but a request that needs one of that side has no other.
    """
    if pool.fresh.all():
        return fullness
    for side in sides:
        if not pool.fresh[side].any():
            fullness = fullness.copy()
            fullness[side] = judge(pool.take(side))
    return fullness


def mean_of_known(fullness: Floats, pool: PoolView) -> float:
    """Over the endpoints with fresh gauges; over all where there are none."""
    fresh = pool.fresh
    known = fullness if fresh.all() or not fresh.any() else fullness[fresh]
    return float(known.sum()) / len(known)
