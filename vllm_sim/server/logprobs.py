"""Log probabilities in the forms of both completion APIs.

The simulator has no model, so every token is as likely as any other: the values are one constant,
the alternatives are the token itself. Only the forms tell something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_sim.text import tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

Json = dict[str, Any]
LIKELY = -0.6931471805599453
"""ln(1/2), for every token."""


def chat_logprobs(tokens: Sequence[int], alternatives: int) -> Json:
    """What a chat's choice says of its tokens, with so many alternatives each."""
    rows = [_chat_token(token) for token in tokens]
    return {"content": [{**row, "top_logprobs": [row] * alternatives} for row in rows]}


def _chat_token(token: int) -> Json:
    data = tokenizer.token_bytes(token)
    return {"token": data.decode("utf-8", "replace"), "logprob": LIKELY, "bytes": list(data)}


def text_logprobs(tokens: Sequence[int], alternatives: int, *, opening: bool = False) -> Json:
    """The same for a text completion; with `opening` the first token begins the prompt, and what
    begins a prompt has no probability."""
    words = [tokenizer.decode([token]) for token in tokens]
    offsets = [sum(map(len, words[:place])) for place in range(len(words))]
    values: list[float | None] = [LIKELY] * len(words)
    tops: list[Json | None] = [{word: LIKELY} if alternatives else None for word in words]
    if opening and words:
        values[0] = tops[0] = None
    return {
        "text_offset": offsets,
        "token_logprobs": values,
        "tokens": words,
        "top_logprobs": tops,
    }


def prompt_logprobs(prompt: Sequence[int]) -> list[Json | None]:
    """What an echoed prompt says of each of its tokens but the first."""
    rows: list[Json | None] = [None]
    for token in prompt[1:]:
        told = {"logprob": LIKELY, "rank": 1, "decoded_token": tokenizer.decode([token])}
        rows.append({str(token): told})
    return rows
