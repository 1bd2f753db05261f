"""The load of a workload: open, as times that nobody waits for, or closed, as workers that do."""

from __future__ import annotations

import random
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from epp_lab.arrivals import Kind, staged, times

MOST_STAGES: Final = 10_000


class Stage(BaseModel):
    """So many requests in a second for so many seconds; a rate of 0 is a pause."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float = Field(ge=0.0, allow_inf_nan=False)
    duration: float = Field(gt=0.0, allow_inf_nan=False)


class Level(BaseModel):
    """So many workers, until so many requests are answered; of sessions, so many sessions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency_level: int = Field(ge=1, le=100_000)
    num_requests: int = Field(ge=1)


def _which(value: Any) -> str:
    """Whether a stage is closed, by what it names."""
    named = value if isinstance(value, dict) else dir(value)
    return "level" if "concurrency_level" in named or "num_requests" in named else "rate"


AnyStage = Annotated[
    Annotated[Stage, Tag("rate")] | Annotated[Level, Tag("level")], Discriminator(_which)
]


class Load(BaseModel):
    """How requests come: `arrivals`, and how that changes in the course of a run.

    `stages` of {rate, duration} are the shape of a run at `poisson` or `constant`: a run with
    another mean rate or another number of requests is the same shape, higher or longer. Stages of
    {concurrency_level, num_requests} are those of `concurrent`: every worker asks again when it is
    answered, a load multiplies the workers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    arrivals: Kind = "poisson"
    stages: tuple[AnyStage, ...] = Field((), max_length=MOST_STAGES)
    cv: float = Field(1.0, ge=1.0, le=100.0)
    """Coefficient of variation of the gaps between arrivals that come in `clumps`."""

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        closed = self.arrivals == "concurrent"
        if closed and not self.levels:
            raise ValueError("stages of `concurrent` are missing; give concurrency_level and more")
        if len(self.levels) != (len(self.stages) if closed else 0):
            raise ValueError(
                "stages of {concurrency_level, num_requests} go with arrivals: concurrent, "
                "those of {rate, duration} with poisson and constant"
            )
        if self.rates and self.arrivals not in ("poisson", "constant"):
            raise ValueError(f"stages: arrivals {self.arrivals} has none; take poisson or constant")
        if self.rates and not self.planned:
            raise ValueError("stages: every rate is 0; give one above")
        if self.cv != 1.0 and self.arrivals != "clumps":
            raise ValueError("cv is of arrivals: clumps alone; take that or leave cv out")
        return self

    @property
    def rates(self) -> list[tuple[float, float]]:
        """Stages of an open load."""
        return [(s.rate, s.duration) for s in self.stages if isinstance(s, Stage)]

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Workers and requests of each stage of a closed load."""
        found = [stage for stage in self.stages if isinstance(stage, Level)]
        return [(level.concurrency_level, level.num_requests) for level in found]

    @property
    def planned(self) -> int:
        """Requests that the stages come to; 0 where there are none."""
        asked = sum(rate * duration for rate, duration in self.rates)
        return round(asked) + sum(count for _, count in self.levels)

    @property
    def mean_rate(self) -> float:
        """Requests in a second over all stages; 0 where they say nothing of it."""
        lasts = sum(duration for _, duration in self.rates)
        return sum(rate * duration for rate, duration in self.rates) / lasts if lasts else 0.0

    def when(self, count: int, rate: float, rng: random.Random) -> list[float]:
        """`count` times of arrival, rising, at `rate` in a second on average."""
        if not self.rates:
            return times(self.arrivals, count, rate, rng, self.cv)
        stages, stretch = self.rates, self.mean_rate / rate
        work = sum(rate * duration for rate, duration in stages)
        along = [staged(at * work / count, stages) for at in times(self.arrivals, count, 1.0, rng)]
        return [at * stretch * count / work for at in along]
