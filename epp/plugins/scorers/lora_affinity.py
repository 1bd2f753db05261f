"""The scorer of LoRA adapters."""

from typing import ClassVar

import numpy as np

from epp.datastore.sample import LoraState
from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request


class LoraAffinityScorer:
    """lora-affinity-scorer: prefers endpoints that have the request's adapter loaded, or room.

    Formula: adapter running 1.0; room for one more (running + waiting < max) 0.8; adapter waiting
    0.6; else 0.
    Parameters: none.
    Reads: lora, target model of the request.
    Differs from the Go picker: has no opinion where no endpoint reports adapters at all, instead of
    0 for each.
    Example:
        - type: lora-affinity-scorer
    """

    type: ClassVar[str] = "lora-affinity-scorer"

    def score(self, request: Request, pool: PoolView) -> Scores | None:
        states = pool.get("lora")
        if states is None or not any(_says_something(state) for state in states.tolist()):
            return None
        return np.array([_rate(request.target_model, state) for state in states.tolist()])


def _says_something(state: LoraState) -> bool:
    return bool(state.max_adapters or state.running or state.waiting)


def _rate(adapter: str, state: LoraState) -> float:
    if adapter in state.running:
        return 1.0
    if len(state.running) + len(state.waiting) < state.max_adapters:
        return 0.8
    return 0.6 if adapter in state.waiting else 0.0
