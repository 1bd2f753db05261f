"""The JSON forms of OpenAI's two completion APIs, as vLLM fills them.

Fields that vLLM always sends are here with null where the simulator has nothing to say, so that a
client sees the same keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_sim.server.generation import Generation

Json = dict[str, Any]
encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Told:
    """One finished choice: its text, why it ended, and what was asked for beside."""

    index: int
    text: str
    reason: str
    call: ToolCall | None = None
    ids: list[int] | None = None
    prompt_ids: list[int] | None = None
    stop_text: str | None = None
    logprobs: Json | None = None
    prompt_logprobs: list[Json | None] | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the answer makes; one that the request names ends as any answer does, one that it
    only demands ends with `tool_calls`."""

    id: str
    name: str
    arguments: str
    named: bool

    def whole(self) -> Json:
        """The call of a message that is not streamed."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}

    def deltas(self) -> list[Json]:
        """The call of a stream: its name, then its arguments in two pieces."""
        head = {"id": self.id, "type": "function", "index": 0, "function": {"name": self.name}}
        half = len(self.arguments) // 2
        pieces = (self.arguments[:half], self.arguments[half:])
        rows = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
        return [{"content": None, "tool_calls": [row]} for row in (head, *rows)]

    def reason(self, plain: str) -> str:
        """The finish reason of a choice that would have ended with the plain one."""
        return "tool_calls" if plain == "stop" and not self.named else plain


@dataclass(frozen=True, slots=True)
class Form:
    """How one of the two APIs names things.

    `choice` and `rest` make a whole answer: one choice, and the fields beside the choices. `delta`
    is what a streamed choice says, `opening` an event from its start to where the text stands,
    `closing` what follows the text up to the end of the choices.
    """

    prefix: str
    whole: str
    part: str
    choice: Callable[[Told], Json]
    rest: Callable[[Told], Json]
    delta: Callable[[str], Json]
    opening: bytes
    closing: bytes
    details: Json


def _chat_choice(told: Told) -> Json:
    message: Json = {
        "role": "assistant",
        "content": "" if told.call else told.text,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": None,
    }
    if told.call:
        message["tool_calls"] = [told.call.whole()]
    return {
        "index": told.index,
        "message": message,
        "logprobs": told.logprobs,
        "finish_reason": told.reason,
        "stop_reason": told.stop_text,
        "token_ids": told.ids,
        "routed_experts": None,
    }


def _text_choice(told: Told) -> Json:
    return {
        "index": told.index,
        "text": told.text,
        "logprobs": told.logprobs,
        "finish_reason": told.reason,
        "stop_reason": told.stop_text,
        "token_ids": told.ids,
        "prompt_logprobs": told.prompt_logprobs,
        "prompt_token_ids": told.prompt_ids,
        "routed_experts": None,
    }


def _chat_rest(told: Told) -> Json:
    return {"prompt_logprobs": None, "prompt_token_ids": told.prompt_ids, "prompt_text": None}


CHAT = Form(
    prefix="chatcmpl-",
    whole="chat.completion",
    part="chat.completion.chunk",
    choice=_chat_choice,
    rest=_chat_rest,
    delta=lambda text: {"delta": {"content": text}},
    opening=b'"logprobs":null,"finish_reason":null,"token_ids":null,"delta":{"content":',
    closing=b"}}]",
    details={"completion_tokens_details": None},
)
TEXT = Form(
    prefix="cmpl-",
    whole="text_completion",
    part="text_completion",
    choice=_text_choice,
    rest=lambda told: {},
    delta=lambda text: {"text": text, "stop_reason": None, "prompt_token_ids": None},
    opening=b'"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,'
    b'"token_ids":null,"text":',
    closing=b"}]",
    details={},
)


def fingerprint(version: str, model: str) -> str:
    """vLLM's system_fingerprint: its version and a hash of the settings, here of the model."""
    return f"vllm-{version}-{crc32(model.encode()):08x}"


def usage_of(prompt: int, completion: int) -> Json:
    """The counts of OpenAI's usage object."""
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
    }


def cache_details(form: Form, cached: int, written: int) -> Json:
    """What the prompt found in the cache; chats also tell what they wrote to it."""
    found = {"cached_tokens": cached}
    return {**found, "created_cache_tokens": written} if form is CHAT else found


def whole_details(form: Form, cached: int, written: int) -> Json:
    """Both detail objects of an answer that is not streamed."""
    told = cache_details(form, cached, written)
    found = {"created_cache_tokens": None, **told, "multimodal_tokens": None}
    return {"prompt_tokens_details": found, "completion_tokens_details": None}


def ids_of(generation: Generation, first: int, end: int) -> list[int]:
    return list(generation.job.answer[first:end])
