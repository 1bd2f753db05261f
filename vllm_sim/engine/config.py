"""The settings of one engine, checked once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from vllm_sim.engine.profile import ReplicaProfile, profile_named

Policy = Literal["fcfs", "priority"]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Settings named as vLLM names them; zero for a size means: the profile's.

    `num_gpu_blocks` counts vLLM's null block, so one fewer holds tokens. ValueError for settings
    that vLLM refuses.
    """

    profile: ReplicaProfile
    block_size: int = 16
    num_gpu_blocks: int = 0
    max_num_seqs: int = 0
    max_num_batched_tokens: int = 0
    long_prefill_token_threshold: int = 0
    policy: Policy = "fcfs"
    enable_prefix_caching: bool = True
    reserve_full_isl: bool = True
    max_loras: int = 0
    max_cpu_loras: int = 0
    kv_lease_s: float = 480.0
    record_events: bool = False
    report_tokens: bool = False

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise ValueError("block_size must be at least 1")
        if self.blocks < 2:
            raise ValueError("num_gpu_blocks must be at least 2: one is the null block")
        if self.token_budget < self.seqs:
            raise ValueError("max_num_batched_tokens must not be below max_num_seqs")

    @property
    def blocks(self) -> int:
        """All blocks, the null block included."""
        return self.num_gpu_blocks or self.profile.kv_tokens // self.block_size + 1

    @property
    def seqs(self) -> int:
        return self.max_num_seqs or min(
            self.profile.max_num_seqs, self.max_num_batched_tokens or self.profile.max_num_seqs
        )

    @property
    def token_budget(self) -> int:
        return self.max_num_batched_tokens or max(
            self.profile.max_num_batched_tokens, self.max_num_seqs
        )

    @property
    def cpu_loras(self) -> int:
        return max(self.max_cpu_loras, self.max_loras)

    def with_profile(self, profile: ReplicaProfile) -> EngineConfig:
        """The same sizes with another profile's times."""
        return replace(
            self,
            profile=profile,
            num_gpu_blocks=self.blocks,
            max_num_seqs=self.seqs,
            max_num_batched_tokens=self.token_budget,
        )

    @classmethod
    def named(cls, profile: str, **settings: object) -> EngineConfig:
        """A configuration on the profile of that name, for example `h100-llama-8b`."""
        return cls(profile_named(profile), **settings)  # type: ignore[arg-type]  # checked by fields
