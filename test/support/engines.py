"""Small engines for tests: four tokens in a block, times of an H100."""

from __future__ import annotations

from vllm_sim.engine import PROFILES, Engine, EngineConfig, Request

SIZE = 4


def small_config(**changes) -> EngineConfig:
    """Twelve usable blocks of four tokens, four sequences, a budget of 16 tokens, one adapter."""
    settings = {
        "profile": PROFILES["h100-llama-8b"],
        "block_size": SIZE,
        "num_gpu_blocks": 13,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "max_loras": 1,
        "record_events": True,
        "report_tokens": True,
    }
    return EngineConfig(**{**settings, **changes})


def small_engine(**changes) -> Engine:
    return Engine(small_config(**changes))


def family_keys(family: int, tokens: int) -> list[int]:
    """Keys of a conversation: requests of one family share their prefix."""
    return [family * 1000 + number for number in range(tokens // SIZE)]


def request(name: str, prompt: int, output: int, *, family: int = 0, **fields) -> Request:
    """A request whose blocks have keys when it belongs to a family."""
    keys = family_keys(family, prompt + output) if family else ()
    return Request(name, prompt, output, keys, **fields)


def run_out(engine: Engine, steps: int = 5000) -> list:
    """Steps until nothing is left to do; the sequences that finished."""
    done = []
    for _ in range(steps):
        if engine.start(engine.clock) is not None:
            done += engine.finish().finished
            continue
        wake = engine.idle_until()
        if wake is None:
            return done
        engine.clock = max(engine.clock, wake)
    raise AssertionError("the engine never comes to rest")
