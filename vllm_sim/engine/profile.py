"""What one replica costs: step time, KV capacity, wake times.

The step formula (times in milliseconds, T tokens and B requests in the step):

    max(w0 + w1*T, p0 + p1*T) + pair * sum(n*x + n*n/2) + kv * sum(ctx) + seq * B_dec + d0 + d1*B

The first term is the weight stream against the matrix multiplications, the second the attention of
prefill chunks of n tokens on x already computed, the third the KV stream of decodes, the rest the
CPU. Coefficients are fitted to measured kernel tables of vLLM; the 32B, 70B and L4 rows are
estimates that agree with published throughput.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

KIB = 1024


@dataclass(frozen=True, slots=True)
class ReplicaProfile:
    """Coefficients in milliseconds, capacities in tokens, delays in seconds."""

    name: str
    w0: float
    w1: float
    p0: float
    p1: float
    pair: float
    kv: float
    seq: float
    kv_tokens: int
    d0: float = 0.4
    d1: float = 0.01
    kv_bytes_per_token: int = 128 * KIB
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 1024
    wake_level_1_s: float = 1.0
    wake_level_2_s: float = 2.0
    cold_start_s: float = 45.0
    transfer_setup_s: float = 0.001
    transfer_bytes_per_s: float = 50e9
    lora_load_s: float = 0.010
    lora_disk_s: float = 0.5
    lora_overhead: float = 0.10
    frontend_s: float = 0.03
    frontend_per_token_s: float = 25e-6

    def step_ms(
        self,
        decode_contexts: Sequence[int] = (),
        chunks: Sequence[tuple[int, int]] = (),
    ) -> float:
        """The duration of one step in ms; `chunks` are pairs (new tokens, tokens before them)."""
        decodes = len(decode_contexts)
        tokens = decodes + sum(new for new, _ in chunks)
        attention = sum(new * before + new * new / 2 for new, before in chunks)
        return (
            max(self.w0 + self.w1 * tokens, self.p0 + self.p1 * tokens)
            + self.pair * attention
            + self.kv * sum(decode_contexts)
            + self.seq * decodes
            + self.d0
            + self.d1 * (decodes + len(chunks))
        )

    def transfer_s(self, tokens: int) -> float:
        """Seconds to pull the KV of `tokens` tokens from another replica."""
        return self.transfer_setup_s + tokens * self.kv_bytes_per_token / self.transfer_bytes_per_s

    def frontend_delay_s(self, prompt_tokens: int) -> float:
        """What HTTP, chat template, tokenizer and hashing add to a request before the engine.

        A delay of the request, not work of the engine; a caller that wants it adds it to the
        arrival. An estimate: published fully cached 7,200-token prompts take 0.3 s to the first
        token where the step model gives 0.1 s.
        """
        return self.frontend_s + prompt_tokens * self.frontend_per_token_s

    def without_cpu(self) -> ReplicaProfile:
        """The kernels alone, as the published kernel tables give them."""
        return replace(self, d0=0.0, d1=0.0)


def _small_gpu(profile: ReplicaProfile) -> ReplicaProfile:
    """vLLM's defaults for A100, L40S, L4 and everything under 70 GiB."""
    return replace(profile, max_num_batched_tokens=2048, max_num_seqs=256)


_H100 = ReplicaProfile("h100-llama-8b", 6.6, 0.0070, 1.2, 0.0198, 9.4e-7, 4.32e-5, 0.0026, 420_000)
_H100_8 = ReplicaProfile(
    "h100-llama-8b-fp8", 4.32, 0.0056, 1.44, 0.01455, 9.4e-7, 4.32e-5, 0.0026, 480_000
)
_H200 = ReplicaProfile(
    "h200-llama-8b", 5.14, 0.0057, 0.48, 0.0203, 9.6e-7, 3.13e-5, 0.0027, 820_000
)
_H200_8 = ReplicaProfile(
    "h200-llama-8b-fp8", 3.76, 0.0051, 1.82, 0.0122, 9.6e-7, 3.13e-5, 0.0027, 880_000
)
_A100 = _small_gpu(
    ReplicaProfile("a100-llama-8b", 11.2, 0.0183, 5.2, 0.0544, 3.2e-6, 8.4e-5, 0.0034, 450_000)
)
_L40S = _small_gpu(
    ReplicaProfile("l40s-llama-8b", 22.65, 0.033, -0.6, 0.0727, 2.9e-6, 1.85e-4, 0.003, 200_000)
)
_L40S_8 = _small_gpu(
    ReplicaProfile("l40s-llama-8b-fp8", 12.9, 0.0185, 1.36, 0.0478, 2.9e-6, 1.85e-4, 0.003, 260_000)
)
_L4 = _small_gpu(ReplicaProfile("l4-llama-8b", 65, 0.09, 0, 0.21, 8.7e-6, 5.5e-4, 0.004, 32_000))
_QWEN_32B = ReplicaProfile(
    "h100-tp2-qwen3-32b",
    13,
    0.012,
    3,
    0.0445,
    1.5e-6,
    4.2e-5,
    0.0026,
    307_328,
    d0=0.5,
    kv_bytes_per_token=256 * KIB,
    wake_level_1_s=3.0,
)
_LLAMA_70B = ReplicaProfile(
    "h100-tp4-llama-70b",
    14,
    0.010,
    2,
    0.056,
    1.1e-6,
    2.6e-5,
    0.0026,
    461_376,
    kv_bytes_per_token=320 * KIB,
    wake_level_1_s=5.0,
)

PROFILES: dict[str, ReplicaProfile] = {
    profile.name: profile
    for profile in (
        _H100,
        _H100_8,
        _H200,
        _H200_8,
        _A100,
        _L40S,
        _L40S_8,
        _L4,
        _QWEN_32B,
        _LLAMA_70B,
    )
}


def profile_named(name: str) -> ReplicaProfile:
    """The profile of that name; ValueError lists the known ones."""
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(sorted(PROFILES))
        raise ValueError(f"profile {name!r} is unknown; choose one of: {known}") from None
