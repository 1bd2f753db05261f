"""How a profile came to its pick, kept as the arrays it used and put into words when read.

Keeping them costs a microsecond; the words for 1,000 endpoints would cost a hundred.
"""

from collections.abc import Iterator, Sequence
from typing import overload

from epp.domain.endpoint import Endpoint
from epp.domain.pool import Mask, Scores


class Names(Sequence[str]):
    """Names of endpoints, made when read."""

    __slots__ = ("_endpoints",)

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints

    def __len__(self) -> int:
        return len(self._endpoints)

    def __iter__(self) -> Iterator[str]:
        return (endpoint.name for endpoint in self._endpoints)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        if isinstance(at, slice):
            return Names(self._endpoints[at])
        return self._endpoints[at].name


class RawFilteredBy:
    """What a filter removed; reads like `FilteredBy`."""

    __slots__ = ("_before", "_mask", "name")

    def __init__(self, name: str, before: Sequence[Endpoint], mask: Mask) -> None:
        self.name = name
        self._before = before
        self._mask = mask

    @property
    def removed(self) -> tuple[str, ...]:
        kept = self._mask.tolist()
        return tuple(e.name for e, keep in zip(self._before, kept, strict=True) if not keep)


class RawScoredBy:
    """A scorer's clamped scores; reads like `ScoredBy`."""

    __slots__ = ("_scores", "name", "weight")

    def __init__(self, name: str, weight: float, scores: Scores) -> None:
        self.name = name
        self.weight = weight
        self._scores = scores

    @property
    def scores(self) -> tuple[float, ...]:
        return tuple(self._scores.tolist())


class RawTrace:
    """Reads like `ProfileTrace`. Written by one profile run, then left alone."""

    __slots__ = ("_endpoints", "_totals", "filtered", "profile", "scores")

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self.filtered: list[RawFilteredBy] = []
        self.scores: list[RawScoredBy] = []
        self._endpoints: Sequence[Endpoint] = ()
        self._totals: Scores | None = None

    def settle(self, candidates: Sequence[Endpoint], totals: Scores | None) -> None:
        """Note who survived the filters, and their totals (None where nothing was scored)."""
        self._endpoints = candidates
        self._totals = totals

    @property
    def candidates(self) -> Sequence[str]:
        return Names(self._endpoints)

    @property
    def totals(self) -> tuple[float, ...]:
        return () if self._totals is None else tuple(self._totals.tolist())
