"""Latencies by the simulator's step formula, of endpoints in random states; for models of them."""

import random
from dataclasses import dataclass

import numpy as np

from vllm_sim.engine.profile import PROFILES, ReplicaProfile

BUDGET = 8192
KV_TOKENS = 400_000


@dataclass(frozen=True)
class Answer:
    """What a model may know beforehand, and what came: seconds to the first and further tokens."""

    features: np.ndarray
    ttft: float
    tpot: float


class Replicas:
    """Draws requests; `speed` 2 takes half as long on the engine, the frontend stays as it is."""

    def __init__(self, profile: str = "h100-llama-8b", seed: int = 1) -> None:
        self._profile: ReplicaProfile = PROFILES[profile]
        self._random = random.Random(seed)

    def answer(self, speed: float = 1.0) -> Answer:
        chance = self._random
        contexts = [chance.randrange(200, 6000)] * chance.randrange(120)
        prompt = int(min(max(chance.lognormvariate(7.2, 0.9), 50), 16_000))
        cached = int(prompt * chance.choice([0.0, 0.0, 0.5, 0.9]))
        ahead = chance.choice([0, 0, chance.randrange(8_000), chance.randrange(30_000)])
        step = self._profile.step_ms(contexts) / 1e3
        prefill = self._prefill_s(prompt - cached + ahead, cached, contexts)
        further = self._profile.step_ms([c + 100 for c in contexts] + [prompt]) / 1e3
        known = [
            1.0,
            prompt / 1e3,
            (prompt - cached) / 1e3,
            ahead / 1e3,
            (len(contexts) + 1) / 10,
            0.0,
            sum(contexts) / KV_TOKENS,
        ]
        # A request comes at any moment of the step that is running.
        waited = chance.random() * step
        return Answer(
            np.array(known),
            self._profile.frontend_delay_s(prompt) + (prefill + waited) / speed,
            further / speed,
        )

    def _prefill_s(self, tokens: int, before: int, contexts: list[int]) -> float:
        """Chunk after chunk, beside the decodes."""
        seconds = 0.0
        while tokens > 0:
            chunk = min(tokens, BUDGET - len(contexts))
            seconds += self._profile.step_ms(contexts, [(chunk, before)]) / 1e3
            tokens -= chunk
        return seconds
