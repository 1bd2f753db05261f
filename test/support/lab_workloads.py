"""Small workloads of the lab, as plain data and parsed."""

from __future__ import annotations

from typing import Any

from epp_lab.workload import Workload, parse_workload


def prefixes(**given: Any) -> dict[str, Any]:
    """Four groups of three prompts."""
    fields = {
        "kind": "shared_prefix",
        "num_groups": 4,
        "num_prompts_per_group": 3,
        "system_prompt_len": 640,
        "question_len": 100,
        "output_len": 10,
    }
    return fields | given


def sessions(**given: Any) -> dict[str, Any]:
    """Sessions of three turns, five seconds apart."""
    fields = {
        "kind": "conversation_replay",
        "shared_system_prompt_len": 100,
        "dynamic_system_prompt_len": 50,
        "turns_per_conversation": 3,
        "input_tokens_per_turn": 10,
        "output_tokens_per_turn": 20,
        "tool_call_latency_sec": 5,
    }
    return fields | given


def workload(requests: dict[str, Any], **given: Any) -> Workload:
    """Two replicas that are asked this. Raises BadTrace."""
    fields = {
        "name": "small",
        "about": "a test",
        "requests": requests,
        "replicas": 2,
        "replica": {"profile": "h100-llama-8b"},
        "slo": {"ttft_s": 1.0, "tpot_s": 0.1},
    }
    return parse_workload(fields | given, "here")
