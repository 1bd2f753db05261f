"""What one page of an engine's /metrics says."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec


class LoraState(msgspec.Struct, frozen=True):
    """Adapters of one endpoint by name; `max_adapters` 0 where LoRA is off or unknown."""

    running: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    max_adapters: int = 0


NO_LORA: Final = LoraState()


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Gauges of one endpoint, summed over its engine ranks; raw, as the engine reports them."""

    waiting: float = 0.0
    running: float = 0.0
    kv_usage: float = 0.0
    """Share of KV memory held by running requests, 0..1."""
    lora: LoraState = NO_LORA
    max_running: float = math.nan
    """The engine's batch limit in requests; NaN where it does not say."""
    kv_blocks: int = 0
    """KV blocks of all ranks together; 0 if unknown."""
    block_size: int = 0
    """Tokens per KV block; 0 if unknown."""
    sleeping: bool = False
    prefilled_tokens: float = math.nan
    """Counter of prompt tokens computed, not taken from cache, so far; NaN where it was not read,
    which is always while requests wait, and with `generated_tokens`."""
    generated_tokens: float = math.nan
    """Counter of tokens of answers so far; NaN where it was not read."""
    custom: Mapping[str, float] = {}
    """Further gauges, each a column of the view under its name."""
