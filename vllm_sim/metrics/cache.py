"""The labels of cache_config_info: every setting of vLLM's cache configuration, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_sim.metrics.dialect import Version

UNUSED = {
    "_block_size_resolved": "True",
    "cache_hit_alignment_tokens": "None",
    "enable_mamba_shared_prefix_checkpoint": "False",
    "hash_block_size": "None",
    "is_attention_free": "False",
    "kv_cache_dtype_skip_layers": "[]",
    "kv_cache_layout": "None",
    "kv_cache_memory_bytes": "None",
    "kv_offloading_backend": "native",
    "kv_offloading_size": "None",
    "kv_sharing_fast_prefill": "False",
    "mamba_block_size": "None",
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_page_size_padded": "None",
    "mamba_ssm_cache_dtype": "auto",
    "num_cpu_blocks": "None",
    "prefix_cache_retention_interval": "0",
    "prefix_match_unit": "None",
    "replayssm_buffer_len": "16",
    "skip_page_size_padded": "None",
    "sliding_window": "None",
    "swa_bounded_replay": "True",
    "use_kda_recoverssm": "False",
    "use_replayssm": "False",
    "user_specified_block_size": "True",
}
"""What 0.32 shows of features that the simulator has not."""


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Sizes of one replica's cache; `overridden` is the number of blocks that was asked for."""

    block_size: int
    blocks: int
    overridden: int
    caching: bool
    model_len: int


def cache_settings(version: Version, shape: CacheShape) -> dict[str, str]:
    """The labels of that version and their values, but for the engine's number."""
    settings = {
        "block_size": str(shape.block_size),
        "num_gpu_blocks": str(shape.blocks),
        "cache_dtype": "auto",
        "gpu_memory_utilization": "0.92",
        "enable_prefix_caching": str(shape.caching),
        "prefix_caching_hash_algo": "sha256_cbor",
    }
    if version.within((0, 32)):
        tokens = shape.blocks * shape.block_size
        settings |= UNUSED | {
            "effective_attention_block_size": str(shape.block_size),
            "kv_cache_size_tokens": str(tokens),
            "kv_cache_max_concurrency": str(tokens / shape.model_len),
            "num_gpu_blocks_override": str(shape.overridden or None),
        }
    return settings
