"""Counters of one engine, in vLLM's units: tokens unless the name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class EngineStats:
    """Only ever rising. `prefix_queries` counts a request's tokens once, at its first lookup."""

    prefix_queries: int = 0
    prefix_hits: int = 0
    external_queries: int = 0
    external_hits: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    preemptions: int = 0
    steps: int = 0
    added: int = 0
    finished: int = 0
    aborted: int = 0
    leases_expired: int = 0
    lora_loads: int = 0
