"""Which metric names and event forms a vLLM version has."""

from __future__ import annotations

from dataclasses import dataclass

NEWEST = "0.33.0"
ALWAYS = (0, 0)
NEVER = (99, 0)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A vLLM version, compared by its numbers."""

    numbers: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Version:
        """`0.19` or `0.19.1`; ValueError for anything else."""
        try:
            numbers = tuple(int(part) for part in text.removeprefix("v").split("."))
        except ValueError:
            raise ValueError(f"vllm-version {text!r} must look like 0.33.0") from None
        return cls(numbers)

    def within(self, since: tuple[int, int], until: tuple[int, int] = NEVER) -> bool:
        """Whether it lies in [since, until)."""
        return since <= self.numbers[:2] < until

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers))


SPANS: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "num_requests_waiting_by_reason": ((0, 22), NEVER),
    "num_requests_kv_fetch_by_stage": ((0, 33), NEVER),
    "kv_cache_usage_perc": ((0, 9), NEVER),
    "gpu_cache_usage_perc": (ALWAYS, (0, 19)),
    "gpu_prefix_cache_queries": (ALWAYS, (0, 19)),
    "gpu_prefix_cache_hits": (ALWAYS, (0, 19)),
    "prefix_cache_queries": ((0, 9), NEVER),
    "prefix_cache_hits": ((0, 9), NEVER),
    "external_prefix_cache_queries": ((0, 11), NEVER),
    "external_prefix_cache_hits": ((0, 11), NEVER),
    "mm_cache_queries": ((0, 11), NEVER),
    "mm_cache_hits": ((0, 11), NEVER),
    "estimated_flops_per_gpu": ((0, 32), NEVER),
    "estimated_read_bytes_per_gpu": ((0, 32), NEVER),
    "estimated_write_bytes_per_gpu": ((0, 32), NEVER),
    "engine_sleep_state": ((0, 11), NEVER),
    "prompt_tokens_by_source": ((0, 19), NEVER),
    "prompt_tokens_recomputed": ((0, 19), (0, 24)),
    "prompt_tokens_cached": ((0, 32), NEVER),
    "prompt_tokens_cached_by_source": ((0, 32), NEVER),
    "admission_rejections": ((0, 32), NEVER),
    "nixl_num_kv_expired_reqs": ((0, 19), NEVER),
    "time_per_output_token_seconds": (ALWAYS, (0, 19)),
    "inter_token_latency_seconds": ((0, 10), NEVER),
    "request_time_per_output_token_seconds": ((0, 11), NEVER),
    "request_prefill_kv_computed_tokens": ((0, 19), NEVER),
    "request_num_preemptions": ((0, 32), NEVER),
}
"""Versions [since, until) of each name; a name not listed is in all of them."""

ENGINE_LABEL_SINCE = (0, 9)


def exposes(version: Version, name: str) -> bool:
    """Whether that version's page carries the family (name without prefix and suffix)."""
    since, until = SPANS.get(name, (ALWAYS, NEVER))
    return version.within(since, until)
