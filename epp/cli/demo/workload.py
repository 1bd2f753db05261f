"""The demo's traffic: several tenants, each with a long system prompt of its own."""

import random
from dataclasses import dataclass
from typing import Any

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
WORDS = ("route", "cache", "token", "batch", "prefill", "decode", "endpoint", "pool", "queue")


@dataclass(slots=True, frozen=True)
class Shot:
    """One request to send `at` seconds after the start; `body` None is a GET."""

    at: float
    path: str
    body: dict[str, Any] | None
    tenant: int

    @property
    def streamed(self) -> bool:
        return bool(self.body and self.body.get("stream"))


def mixed_workload(*, seed: int, seconds: float, rate: float, tenants: int) -> list[Shot]:
    """Poisson arrivals at `rate` a second; most are streamed chats of `tenants` tenants."""
    draw = random.Random(seed)
    prefixes = [_text(random.Random(f"{seed}/{tenant}"), 1500) for tenant in range(tenants)]
    shots = []
    at = draw.expovariate(rate)
    while at < seconds:
        tenant = draw.randrange(tenants)
        shots.append(_shot(draw, at, tenant, prefixes[tenant]))
        at += draw.expovariate(rate)
    return shots


def _shot(draw: random.Random, at: float, tenant: int, prefix: str) -> Shot:
    kind = draw.choices(("chat", "completions", "messages", "embeddings", "models"), _SHARES)[0]
    question = _text(draw, 60)
    limits = {"max_tokens": draw.randint(16, 64), "temperature": 0}
    if kind == "models":
        return Shot(at, "/v1/models", None, tenant)
    if kind == "embeddings":
        return Shot(at, "/v1/embeddings", {"model": MODEL, "input": question}, tenant)
    if kind == "completions":
        body = {"model": MODEL, "prompt": f"{prefix}\n{question}", **limits}
        return Shot(at, "/v1/completions", body, tenant)
    if kind == "messages":
        turns = [{"role": "user", "content": question}]
        body = {"model": MODEL, "system": prefix, "messages": turns, **limits}
        return Shot(at, "/v1/messages", body, tenant)
    turns = [{"role": "system", "content": prefix}, {"role": "user", "content": question}]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return Shot(
        at, "/v1/chat/completions", {"model": MODEL, "messages": turns, **options, **limits}, tenant
    )


_SHARES = (80, 10, 6, 2, 2)


def _text(draw: random.Random, tokens: int) -> str:
    """About `tokens` tokens of four characters each."""
    words = []
    length = 0
    while length < tokens * 4:
        word = f"{draw.choice(WORDS)}{draw.randrange(1000)}"
        words.append(word)
        length += len(word) + 1
    return " ".join(words)
