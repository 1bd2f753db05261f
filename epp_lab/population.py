"""Who asks: tenants, one of them greedy, and classes of requests.

Jobs of any kind are given to somebody; what is asked and when stays as it was.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from epp.domain.workload import LEAST, MOST, USUAL
from epp_lab.job import Job, chained, turns_of


class Kind(BaseModel):
    """One class of requests: the priority of its objective, and what its clients say of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(gt=0.0)
    priority: int = 0
    workload: str = Field(default="", max_length=128)
    criticality: int = Field(default=USUAL, ge=LEAST, le=MOST)


class Population(BaseModel):
    """`tenants` that ask alike, but for the first, whose part of all requests is `greedy_share`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenants: int = Field(1, ge=1, le=10_000)
    greedy_share: float = Field(0.0, ge=0.0, lt=1.0)
    classes: tuple[Kind, ...] = Field((Kind(share=1.0),), min_length=1)

    def given(self, jobs: Sequence[Job], rng: random.Random) -> list[Job]:
        """The same jobs, each with a tenant and a class; later turns belong with their first."""
        names = [f"tenant-{number}" for number in range(self.tenants)]
        rest = (1.0 - self.greedy_share) / max(self.tenants - 1, 1)
        shares = [self.greedy_share or rest] + [rest] * (self.tenants - 1)
        weights = [kind.share for kind in self.classes]
        return [
            owned(job, rng.choices(names, shares)[0], rng.choices(self.classes, weights)[0])
            for job in jobs
        ]


def owned(job: Job, tenant: str, kind: Kind) -> Job:
    """The job and all that follow from it, as this tenant's of this class."""
    return chained(
        turns_of(job),
        tenant=tenant,
        priority=kind.priority,
        workload=kind.workload,
        criticality=kind.criticality,
    )
