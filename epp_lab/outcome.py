"""What became of each request of a run."""

from __future__ import annotations

import msgspec

from epp.domain.workload import USUAL


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One request as its client saw it; times in seconds, -1 where it never happened."""

    arrival: float
    tenant: str = ""
    priority: int = 0
    criticality: int = USUAL
    prompt_tokens: int
    output_tokens: int
    replica: str = ""
    """Empty for a request that was not placed; of one that is refused, by whose engine."""
    cached_tokens: int = 0
    waited: float = 0.0
    """In the picker, until it was placed or refused."""
    ttft: float = -1.0
    e2e: float = -1.0
    preemptions: int = 0
    refused: str = ""
    """Why it was not served, as clients are told; empty if it was."""

    @property
    def served(self) -> bool:
        return self.e2e >= 0

    @property
    def tpot(self) -> float:
        """Seconds for each token after the first; 0 for answers of one token."""
        if self.output_tokens < 2:
            return 0.0
        return (self.e2e - self.ttft) / (self.output_tokens - 1)
