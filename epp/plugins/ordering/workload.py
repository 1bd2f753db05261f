"""The order by criticality, waiting time and what a workload has had lately."""

import math
from collections.abc import Hashable, Sequence
from typing import ClassVar, Final

from pydantic import Field

from epp.config.params import PluginParams
from epp.config.units import Duration
from epp.domain.waiting import Waiting
from epp.domain.workload import LEAST, MOST, USUAL
from epp.plugins.service import Attained
from epp.points import Tools

LEVELS: Final = MOST - LEAST
REFRESH: Final = 0.1
"""Seconds for which what is held back stays as it was worked out."""


class Claims:
    """Criticalities that were asked for lately."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def note(self, criticality: int, now: float) -> None:
        self._last[criticality] = max(now, self._last.get(criticality, now))

    def since(self, horizon: float) -> list[int]:
        """Those asked for at `horizon` or later, the highest first."""
        return sorted((c for c, at in self._last.items() if at >= horizon), reverse=True)


class WorkloadOrderingPolicy:
    """workload-ordering-policy: critical workloads first, but nobody waits for ever.

    Formula: rank = arrival - criticalityStep x (criticality - 3) + ratePenalty x share, smallest
    first; share is the workload's part of all prompt tokens computed lately, 0..1, fading with
    rateHalfLife. So nobody is overtaken by who came later than 4 x criticalityStep + ratePenalty
    after them. An endpoint may be filled to 1 - holdback x (levels above) / (levels - 1), levels
    being the criticalities seen within activityWindow; not for who has waited that limit.
    Parameters: criticalityStep (default 10s), ratePenalty (default 10s), rateHalfLife (default
    30s), holdback (default 0.25, 0..1), activityWindow (default 10s).
    Reads: header x-workload-context (JSON: workload_id, criticality 1..5), prompt tokens computed.
    Differs from the Go picker: it has no such policy. Without the header it is the order of
    arrival.
    Example:
        - type: workload-ordering-policy
          parameters: {criticalityStep: 5s}
    """

    type: ClassVar[str] = "workload-ordering-policy"

    class Params(PluginParams):
        criticality_step: Duration = 10.0
        rate_penalty: Duration = 10.0
        rate_half_life: Duration = Field(30.0, gt=0.0)
        holdback: float = Field(0.25, ge=0.0, lt=1.0)
        activity_window: Duration = 10.0

    def __init__(self, params: Params, tools: Tools) -> None:
        self._params = params
        self.limit = LEVELS * params.criticality_step + params.rate_penalty
        """Seconds: who comes later than this after a request does not overtake it."""
        half_life = params.rate_half_life
        self._claims = tools.state.keep("claims", Claims)
        self._shares: Sequence[float] = [1.0] * (MOST + 1)
        self._shares_until = -math.inf
        self._service = tools.state.keep(
            "service", lambda: Attained(half_life), shape=str(half_life)
        )

    def lane(self, waiting: Waiting) -> Hashable:
        self._claims.note(waiting.workload.criticality, waiting.since)
        return waiting.workload

    def key(self, waiting: Waiting) -> float:
        return waiting.since

    def rank(self, waiting: Waiting, now: float) -> float:
        params = self._params
        head_start = params.criticality_step * (waiting.workload.criticality - USUAL)
        return waiting.since - head_start + params.rate_penalty * self._share_of(waiting)

    def share(self, waiting: Waiting, now: float) -> float:
        if now >= self._shares_until:
            self._shares_until = now + REFRESH
            self._shares = self._shares_now(now)
        share = self._shares[waiting.workload.criticality]
        return share if share == 1.0 or waiting.waited(now) < self.limit else 1.0

    def dispatched(self, waiting: Waiting, tokens: int, now: float) -> None:
        """Prompt tokens that were computed count for the workload that asked for them."""
        self._claims.note(waiting.workload.criticality, now)
        self._service.add(payer(waiting), tokens + 1, now)

    def _shares_now(self, now: float) -> Sequence[float]:
        """By criticality, 0 to 5."""
        levels = self._claims.since(now - self._params.activity_window)
        return [1.0, *(self._share_among(c, levels) for c in range(LEAST, MOST + 1))]

    def _share_among(self, criticality: int, levels: Sequence[int]) -> float:
        above = sum(level > criticality for level in levels)
        others = len({*levels, criticality}) - 1
        return 1.0 - self._params.holdback * above / others if others else 1.0

    def _share_of(self, waiting: Waiting) -> float:
        return self._service.share(payer(waiting))


def payer(waiting: Waiting) -> Hashable:
    """Whom a request is counted to: its workload, of its flow."""
    return waiting.queue, waiting.workload.id
