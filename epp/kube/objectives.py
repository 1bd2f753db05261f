"""Objectives give priority: which of them are for this pool, looked up by name."""

from collections.abc import Iterable
from dataclasses import dataclass

from epp.kube.objects import Objective, PoolRef


@dataclass(slots=True, frozen=True)
class PoolName:
    """The pool that is served."""

    name: str
    group: str

    def meant_by(self, ref: PoolRef) -> bool:
        """Whether an object's poolRef points here: name and group must both be right."""
        return (ref.name, ref.group, ref.kind) == (self.name, self.group, "InferencePool")


class ObjectiveBook:
    """Priorities by name, of the objectives of one pool."""

    def __init__(self, pool: PoolName) -> None:
        self._pool = pool
        self._priorities: dict[str, int] = {}

    def priority(self, objective: str) -> int:
        """Higher goes first; 0 for a name nobody knows or without a priority."""
        return self._priorities.get(objective, 0)

    def replace(self, *groups: Iterable[Objective]) -> None:
        """Take all objectives there are, by API group; of one name the first group's counts."""
        priorities: dict[str, int] = {}
        for objectives in groups:
            for one in objectives:
                if self._pool.meant_by(one.pool_ref):
                    priorities.setdefault(one.metadata.name, one.spec.priority or 0)
        self._priorities = priorities
