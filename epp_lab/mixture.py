"""Several kinds of traffic at once, each a share of the requests."""

from __future__ import annotations

import random
from typing import Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, field_validator

from epp_lab.generate import SharedPrefix
from epp_lab.job import Job
from epp_lab.load import Load

ROOM: Final = 1 << 27
"""Contents of one part; so those of two are never the same."""
MOST_PARTS: Final = 16


class Part(BaseModel):
    """One kind: its share of the requests, and what they ask for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    share: float = Field(gt=0.0)
    requests: SharedPrefix

    @field_validator("requests")
    @classmethod
    def _only_what_is_asked(cls, requests: SharedPrefix) -> SharedPrefix:
        if requests.stages or requests.enable_multi_turn_chat:
            raise ValueError("a part has no stages and no chats of its own; stages are the mix's")
        return requests


class Mixture(Load):
    """Requests of all parts, in the order that chance gives; arrivals and stages are the mix's."""

    kind: Literal["mixture"] = "mixture"
    parts: tuple[Part, ...] = Field(min_length=1, max_length=MOST_PARTS)

    def jobs(self, requests: int, rate: float, rng: random.Random) -> list[Job]:
        """`requests` jobs at `rate`."""
        numbers = range(len(self.parts))
        drawn = rng.choices(numbers, [part.share for part in self.parts], k=requests)
        made = [iter(self._of(number, drawn.count(number), rng)) for number in numbers]
        found = [next(made[number]) for number in drawn]
        at = self.when(requests, rate, rng)
        return [msgspec.structs.replace(j, arrival=a) for j, a in zip(found, at, strict=True)]

    def _of(self, number: int, requests: int, rng: random.Random) -> list[Job]:
        part = self.parts[number]
        return [
            msgspec.structs.replace(
                job,
                prompt=tuple((content + number * ROOM, length) for content, length in job.prompt),
                tenant=f"{part.name}/{job.tenant}",
            )
            for job in part.requests.jobs(requests, 1.0, rng)
        ]
