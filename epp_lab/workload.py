"""A workload: what is asked, of which pool, and what is good enough. Files are in `workloads/`.

A workload is fixed: its numbers do not depend on who is measured. Its knee is the rate at which
the `precise` baseline stops meeting the SLO for nine requests in ten (`epp lab knee`), and loads
are multiples of it.
"""

from __future__ import annotations

import fnmatch
import random
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from epp.domain.response import ResponseMode
from epp_lab.generate import ConversationReplay, SharedPrefix
from epp_lab.job import Job
from epp_lab.load import Load
from epp_lab.mixture import Mixture
from epp_lab.population import Population
from epp_lab.simulation import Member, Setting
from epp_lab.trace import (
    BadTrace,
    at_rate,
    find_trace,
    from_zero,
    read_trace,
    spread_bins,
    turns_in,
)
from vllm_sim.engine import EngineConfig, profile_named

WORKLOADS: Final = Path(__file__).parent / "workloads"
OVERLOADS: Final = "overload-"
MORE: Final = "more-"
ADAPTERS: Final = "asks for adapters; set it to how many fit at a time (`--max-loras`)"


class Block(BaseModel):
    """A mapping of a workload file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Trace(Block):
    """Recorded requests, as many as asked for, from a place in the file that the seed chooses."""

    kind: Literal["trace"] = "trace"
    file: str
    bin_s: float = Field(0.0, ge=0.0)
    """Timestamps were cut to bins of this many seconds; Mooncake's are 3."""

    def jobs(self, requests: int, rate: float, rng: random.Random) -> list[Job]:
        """A window of the trace at `rate`."""
        whole = read_trace(find_trace(self.file))
        wide = max(requests * len(whole) // turns_in(whole), 1)
        first = rng.randrange(max(len(whole) - wide, 0) + 1)
        window = spread_bins(whole[first : first + wide], rng, self.bin_s)
        return at_rate(from_zero(window), rate)


class Slo(Block):
    """What a good answer is, in seconds."""

    ttft_s: float = Field(gt=0.0)
    tpot_s: float = Field(gt=0.0)


class ReplicaModel(Block):
    """The engine behind every endpoint. Blocks are larger than vLLM's 16 for speed."""

    profile: str
    kv_tokens: int = Field(0, ge=0)
    """0: the profile's."""
    block_tokens: int = Field(64, ge=1)
    max_loras: int = Field(0, ge=0)

    @field_validator("profile")
    @classmethod
    def _there_is_such_a_profile(cls, name: str) -> str:
        return profile_named(name).name

    def config(self) -> EngineConfig:
        """The engine's settings."""
        profile = profile_named(self.profile)
        blocks = self.kv_tokens // self.block_tokens + 1 if self.kv_tokens else 0
        return EngineConfig(
            profile, block_size=self.block_tokens, num_gpu_blocks=blocks, max_loras=self.max_loras
        )


class Odd(Block):
    """A replica that differs from the others."""

    replica: int = Field(ge=0)
    speed: float = Field(1.0, gt=0.0)
    slows_at_share: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the run after which `speed` holds."""
    joins_at_share: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the run after which it joins."""


Requests = Annotated[
    Trace | SharedPrefix | ConversationReplay | Mixture, Field(discriminator="kind")
]
REQUESTS: Final[TypeAdapter[Requests]] = TypeAdapter(Requests)


class Workload(Block):
    """One file of `workloads/`; what stages say of `count` and `knee` may be left out."""

    name: str
    about: str
    requests: Requests
    count: int = Field(ge=1)
    replicas: int = Field(ge=1)
    replica: ReplicaModel
    knee: float = Field(gt=0.0)
    """Requests in a second for each replica; of a closed load nothing."""
    loads: tuple[float, ...] = (0.7, 0.9, 1.1)
    slo: Slo
    warmup_share: float = Field(0.2, ge=0.0, lt=1.0)
    """The first requests fill caches and are not measured."""
    scrape_s: float = Field(0.05, gt=0.0)
    response: ResponseMode = ResponseMode.FULL
    odd: tuple[Odd, ...] = ()
    population: Population | None = None
    """Who asks; None leaves the requests as their kind makes them."""

    @model_validator(mode="before")
    @classmethod
    def _as_staged(cls, data: Any) -> Any:
        """As many requests as the stages come to, and as many in a second at a load of 1."""
        return {**planned(data), **data} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for number, odd in enumerate(self.odd):
            if odd.replica >= self.replicas:
                raise ValueError(
                    f"odd.{number}.replica is {odd.replica}, of {self.replicas} replicas; "
                    f"give 0..{self.replicas - 1}"
                )
            if self.closed and (odd.joins_at_share or odd.slows_at_share):
                raise ValueError(f"odd.{number}: nobody knows how long a closed load lasts")
        if getattr(self.requests, "lora_traffic_split", ()) and not self.replica.max_loras:
            raise ValueError(f"replica.max_loras is 0, but requests.lora_traffic_split {ADAPTERS}")
        return self

    @property
    def closed(self) -> bool:
        """Whether requests wait for answers."""
        return isinstance(self.requests, Load) and bool(self.requests.levels)

    def rate(self, load: float) -> float:
        """Requests in a second for the whole pool."""
        return load * self.knee * self.replicas

    def pace(self, load: float) -> str:
        """How much is asked at a load, for people."""
        if not self.closed:
            return f"{self.rate(load):.2f} req/s"
        return f"{', '.join(str(workers) for workers, _ in self._levels(load))} at a time"

    def _levels(self, load: float) -> tuple[tuple[int, int], ...]:
        levels = self.requests.levels if isinstance(self.requests, Load) else ()
        return tuple((max(round(workers * load), 1), count) for workers, count in levels)

    def jobs(self, load: float, seed: int) -> list[Job]:
        """The requests of one run; the same for every policy. Raises BadTrace."""
        rng = random.Random(f"{self.name} {seed}")
        jobs = self.requests.jobs(self.count, self.rate(load), rng)
        if not self.replica.max_loras and any(job.adapter for job in jobs):
            raise BadTrace(f"{self.name}: replica.max_loras is 0, but the trace {ADAPTERS}")
        return jobs if self.population is None else self.population.given(jobs, rng)

    def setting(self, load: float) -> Setting:
        """The pool and its world."""
        lasts = self.count / self.rate(load)
        members = [Member(self.replica.config()) for _ in range(self.replicas)]
        for odd in self.odd:
            members[odd.replica] = replace(
                members[odd.replica],
                speed=odd.speed,
                slows_at=odd.slows_at_share * lasts,
                joins_at=odd.joins_at_share * lasts,
            )
        return Setting(
            members=tuple(members),
            scrape_s=self.scrape_s,
            response=self.response,
            levels=self._levels(load),
        )


def planned(data: dict[str, Any]) -> dict[str, Any]:
    """`count` and `knee` of the stages of a workload as plain data; empty where it has none."""
    try:
        requests = REQUESTS.validate_python(data.get("requests"))
        replicas = int(data.get("replicas") or 1)
    except (ValueError, TypeError):
        return {}
    if not isinstance(requests, Load) or not requests.stages:
        return {}
    knee = requests.mean_rate / max(replicas, 1) or 1.0
    return {"count": max(requests.planned, 1), "knee": knee}


def load_workload(name: str) -> Workload:
    """A workload file, or one that comes with the lab. Raises BadTrace with what is wrong."""
    path = Path(name)
    if not path.is_file():
        path = WORKLOADS / f"{name}.yaml"
    if not path.is_file():
        raise BadTrace(f"no workload {name!r}; there are: {', '.join(all_names())}")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as fault:
        raise BadTrace(f"{path}: is not YAML: {fault}") from fault
    return parse_workload(data, str(path))


def parse_workload(data: Any, origin: str) -> Workload:
    """A workload from plain data. Raises BadTrace with the path of each fault."""
    try:
        return Workload.model_validate(data)
    except ValidationError as fault:
        places = [
            ": ".join(filter(None, (origin, ".".join(map(str, e["loc"])), _said(e["msg"]))))
            for e in fault.errors()
        ]
        raise BadTrace("\n".join(places)) from fault


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")


def workload_names() -> list[str]:
    """The workloads of the full table, in its order."""
    return [name for name in _found() if not name.startswith((OVERLOADS, MORE))]


def overload_names() -> list[str]:
    """Those with more requests than there is room for: placing is not what they tell apart."""
    return [name for name in _found() if name.startswith(OVERLOADS)]


def more_names() -> list[str]:
    """Others that are known in the field, and no part of the full table."""
    return [name for name in _found() if name.startswith(MORE)]


def all_names() -> list[str]:
    """Every workload that comes with the lab, those of the full table first."""
    return [*workload_names(), *overload_names(), *more_names()]


def _found() -> list[str]:
    return sorted(path.stem for path in WORKLOADS.glob("*.yaml"))


def names_like(pattern: str) -> list[str]:
    """The workloads that come with the lab and match a shell pattern such as `more-*`.

    What matches none is itself: a name, or a file.
    """
    return fnmatch.filter(all_names(), pattern) or [pattern]
