"""Which endpoints there are, all sources together; who comes and who goes with a new set."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from epp.domain.endpoint import Endpoint


class Slots:
    """Small whole numbers, the smallest free one first."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 0

    def take(self) -> int:
        """A number nobody has."""
        if self._free:
            return heappop(self._free)
        self._next += 1
        return self._next - 1

    def give_back(self, slot: int) -> None:
        heappush(self._free, slot)


@dataclass(slots=True, frozen=True)
class Change:
    """What a new full set changes. `updated` are known ones described anew."""

    added: tuple[Endpoint, ...]
    removed: tuple[Endpoint, ...]
    updated: tuple[Endpoint, ...]


class Members:
    """The union of the full sets of all sources, without duplicates; the first one wins."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._sets: dict[str, tuple[Endpoint, ...]] = {}
        self._refused: set[tuple[str, str, str]] = set()
        self.all: tuple[Endpoint, ...] = ()

    @property
    def synced(self) -> bool:
        """Whether any source has said all it knows at least once."""
        return bool(self._sets)

    def replace(self, source: str, endpoints: Sequence[Endpoint]) -> Change:
        """Take the full set of `source`. An endpoint at a new address is a new endpoint."""
        self._sets[source] = tuple(endpoints)
        before = {(known.key, known.address): known for known in self.all}
        self.all = self._union()
        after = {(known.key, known.address): known for known in self.all}
        return Change(
            added=tuple(e for identity, e in after.items() if identity not in before),
            removed=tuple(e for identity, e in before.items() if identity not in after),
            updated=tuple(e for identity, e in after.items() if before.get(identity, e) != e),
        )

    def _union(self) -> tuple[Endpoint, ...]:
        keys: dict[str, Endpoint] = {}
        addresses: dict[str, Endpoint] = {}
        refused: set[tuple[str, str, str]] = set()
        for source, endpoints in self._sets.items():
            for endpoint in endpoints:
                other = keys.get(endpoint.key) or addresses.get(endpoint.address)
                if other is None:
                    keys[endpoint.key] = addresses[endpoint.address] = endpoint
                else:
                    refused.add((source, endpoint.key, endpoint.address))
                    self._refuse(source, endpoint, other)
        self._refused = refused
        return tuple(keys.values())

    def _refuse(self, source: str, endpoint: Endpoint, other: Endpoint) -> None:
        if (source, endpoint.key, endpoint.address) in self._refused:
            return
        same = "name" if endpoint.key == other.key else "address"
        self._log.warning(
            "endpoint_duplicate",
            source=source,
            refused=f"{endpoint.namespace}/{endpoint.name} at {endpoint.address}",
            kept=f"{other.namespace}/{other.name} at {other.address}",
            fix=f"give each endpoint its own {same}",
        )
