"""Least attained service first."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.decision import Decision
from epp.domain.request import Request
from epp.domain.response import Usage
from epp.domain.waiting import Contender, Waiting
from epp.plugins.service import Attained
from epp.points import Tools


class ProgramAwareFairness:
    """program-aware-fairness: flows that have got little so far go first.

    Formula: service = prompt + 2 x completion tokens, fading with lasHalfLifeSeconds; score =
    lasWeightService x (1 - service / largest service) + lasWeightHeadWait x wait / longest wait,
    over the flows that wait; highest first.
    Parameters: strategy (las), lasWeightService (default 0.8), lasWeightHeadWait (default 0.2),
    lasHalfLifeSeconds (default 60), evictionTtlSeconds and evictionSweepSeconds (accepted: what is
    remembered is bounded in number instead).
    Reads: fairness id, prompt tokens computed, usage of responses (in full response mode).
    Differs from the Go picker: prompt tokens count from the moment of placing, and only those the
    endpoint had to compute, so that a burst is seen before its answers are.
    Example:
        - type: program-aware-fairness
          parameters: {lasHalfLifeSeconds: 120}
    """

    type: ClassVar[str] = "program-aware-fairness"

    class Params(PluginParams):
        strategy: Literal["las"] = "las"
        eviction_ttl_seconds: float = Field(3600.0, ge=0.0)
        eviction_sweep_seconds: float = Field(300.0, ge=0.0)
        las_weight_service: float = Field(0.8, ge=0.0)
        las_weight_head_wait: float = Field(0.2, ge=0.0)
        las_half_life_seconds: float = Field(60.0, gt=0.0)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._params = params
        self._clock = tools.clock
        half_life = params.las_half_life_seconds
        self._service: Attained = tools.state.keep(
            "service", lambda: Attained(half_life), shape=str(half_life)
        )

    def choose(self, band: int, contenders: Sequence[Contender], now: float) -> int:
        params = self._params
        services = [self._service.of(contender.flow, now) for contender in contenders]
        waits = [contender.head.waited(now) for contender in contenders]
        most_service = max(services) or 1.0
        longest = max(waits) or 1.0

        def score(index: int) -> tuple[float, int]:
            score = params.las_weight_service * (1.0 - services[index] / most_service)
            score += params.las_weight_head_wait * waits[index] / longest
            return score, -contenders[index].head.number

        return max(range(len(contenders)), key=score)

    def dispatched(self, waiting: Waiting, tokens: int, now: float) -> None:
        self._service.add(waiting.queue, tokens, now)

    def used(self, request: Request, decision: Decision, usage: Usage) -> None:
        """Output costs twice as much as input."""
        self._service.add(request.fairness_id, 2.0 * usage.completion_tokens, self._clock())
