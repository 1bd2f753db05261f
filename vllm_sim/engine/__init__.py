"""The deterministic replica: when does each token of each request come?

Time is an argument everywhere; there is no clock, no socket and no asyncio in this package.
`Engine` steps as vLLM's V1 scheduler does, `PacedEngine` gives constant latencies; both share one
surface: `add`, `abort`, `start`, `finish`, `idle_until`. A lab that wants many requests per second
of its own time calls `Engine.advance(until)`, which leaps over runs of pure decode.
Open `core.py` first, then `schedule.py` and `blocks.py`.
"""

from vllm_sim.engine.blocks import BlockPool, Cleared, KVEvent, Removed, Stored
from vllm_sim.engine.config import EngineConfig
from vllm_sim.engine.core import Engine
from vllm_sim.engine.paced import PacedEngine, Pacing
from vllm_sim.engine.profile import PROFILES, ReplicaProfile, profile_named
from vllm_sim.engine.sequence import Request, Sequence, State, StepResult
from vllm_sim.engine.stats import EngineStats

__all__ = [
    "PROFILES",
    "BlockPool",
    "Cleared",
    "Engine",
    "EngineConfig",
    "EngineStats",
    "KVEvent",
    "PacedEngine",
    "Pacing",
    "Removed",
    "ReplicaProfile",
    "Request",
    "Sequence",
    "State",
    "StepResult",
    "Stored",
    "profile_named",
]
