"""OpenAI's chat and text completions, whole and streamed."""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from vllm_sim.server import fields
from vllm_sim.server.errors import bad_request
from vllm_sim.server.fields import Wishes
from vllm_sim.server.site import Site, usage_of
from vllm_sim.server.sse import DONE, EventStream
from vllm_sim.server.tools import call_for
from vllm_sim.text import tokenizer
from vllm_sim.text.template import flat_text, render_chat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vllm_sim.server.generation import Generation, Job

encode = msgspec.json.encode
Json = dict[str, Any]


def chat_prompt(body: Json) -> list[int]:
    """Token ids of a chat body's messages and tools."""
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise bad_request("tools must be a list", "tools")
    continued = fields.flag(body, "continue_final_message")
    wanted = body.get("add_generation_prompt", True) and not continued
    text = render_chat(fields.messages(body), tools=tools, generation_prompt=bool(wanted))
    return tokenizer.encode(text)


def completion_prompts(body: Json) -> list[list[int]]:
    """The prompts of a completions body: text, token ids, or a list of either."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return [tokenizer.encode(prompt)]
    if not isinstance(prompt, list) or not prompt:
        raise bad_request("prompt must be a string, a list of strings or token ids", "prompt")
    if all(isinstance(item, str) for item in prompt):
        return [tokenizer.encode(item) for item in prompt]
    if all(_is_token(item) for item in prompt):
        return [prompt]
    if all(isinstance(item, list) and item and all(map(_is_token, item)) for item in prompt):
        return prompt
    raise bad_request("prompt must be a string, a list of strings or token ids", "prompt")


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32


def last_user_text(body: Json) -> str:
    for message in reversed(fields.messages(body)):
        if message.get("role") == "user":
            return flat_text(message.get("content"))
    return ""


@dataclass(frozen=True, slots=True)
class Form:
    """How one of the two APIs names things."""

    prefix: str
    whole: str
    part: str
    choice: Callable[[int, str, str, Json | None], Json]
    delta: Callable[[str], Json]


def _chat_choice(index: int, text: str, reason: str, call: Json | None) -> Json:
    message: Json = {
        "role": "assistant",
        "content": None if call else text,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": [call] if call else [],
        "reasoning": None,
    }
    shown = "tool_calls" if call and reason == "stop" else reason
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": shown,
        "stop_reason": None,
        "token_ids": None,
    }


def _text_choice(index: int, text: str, reason: str, call: Json | None) -> Json:
    return {
        "index": index,
        "text": text,
        "logprobs": None,
        "finish_reason": reason,
        "stop_reason": None,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
    }


CHAT = Form(
    "chatcmpl-",
    "chat.completion",
    "chat.completion.chunk",
    _chat_choice,
    lambda text: {"delta": {"content": text}},
)
TEXT = Form(
    "cmpl-", "text_completion", "text_completion", _text_choice, lambda text: {"text": text}
)


class OpenAI:
    """Handlers of /v1/chat/completions and /v1/completions."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await fields.read_json(request)
        said = last_user_text(body) if self._site.options.mode == "echo" else ""
        call = call_for(body)
        return await self._answer(request, body, CHAT, [chat_prompt(body)], said, call)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await fields.read_json(request)
        prompts = completion_prompts(body)
        said = tokenizer.decode(prompts[0]) if self._site.options.mode == "echo" else ""
        return await self._answer(request, body, TEXT, prompts, said, None)

    async def _answer(
        self,
        request: web.Request,
        body: Json,
        form: Form,
        prompts: Sequence[list[int]],
        said: str,
        call: Json | None,
    ) -> web.StreamResponse:
        site, wishes = self._site, Wishes.of(body)
        lora = site.models.resolve(body.get("model"))
        model = body.get("model") or site.models.names[0]
        if wishes.hold and wishes.stream:
            raise bad_request("do_remote_decode cannot be used with stream", "stream")
        rid = site.request_id(request)
        jobs = [
            site.job(request, prompt, answer, wishes, model=model, lora=lora, request_id=rid)
            for prompt in prompts
            for choice in range(wishes.choices)
            for answer in (site.answer(prompt, wishes, said=said, salt=choice),)
        ]
        call = None if wishes.hold else call
        reply = Reply(site, form, f"{form.prefix}{rid}", model, wishes, call)
        if wishes.stream:
            return await reply.streamed(request, jobs)
        return await reply.whole(jobs)


class Reply:
    """One answer on its way out; also the listener of its generations."""

    def __init__(
        self, site: Site, form: Form, name: str, model: str, wishes: Wishes, call: Json | None
    ) -> None:
        self._site = site
        self._form = form
        self._head = {"id": name, "object": form.part, "created": int(time()), "model": model}
        self._wishes = wishes
        self._call = call
        self._stream: EventStream | None = None
        self._index: dict[str, int] = {}
        self._prefix: list[bytes] = []

    async def whole(self, jobs: Sequence[Job]) -> web.Response:
        """The complete answer."""
        site, form = self._site, self._form
        async with site.generating(jobs) as generations:
            await site.finished(generations)
        choices = [
            form.choice(index, self._text(generation), generation.done.result(), self._call)
            for index, generation in enumerate(generations)
        ]
        body = {
            **self._head,
            "object": form.whole,
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": None,
            "usage": site.usage(generations),
            "prompt_logprobs": None,
            "kv_transfer_params": site.transfer_params(generations[0]),
        }
        return web.Response(body=encode(body), content_type="application/json")

    def _text(self, generation: Generation) -> str:
        threshold = generation.done.result() == "cache_threshold"
        return "" if threshold else generation.text()

    async def streamed(self, request: web.Request, jobs: Sequence[Job]) -> web.StreamResponse:
        """Headers at once, then an event for each token, then usage if asked, then [DONE]."""
        site = self._site
        self._index = {job.request_id: index for index, job in enumerate(jobs)}
        self._prefix = [self._token_prefix(index) for index in range(len(jobs))]
        async with site.generating(jobs, self) as generations:
            self._stream = stream = EventStream(request, {})
            if site.dice.hit(site.faults.reset_rate):
                stream.cut_after(site.faults.reset_after_tokens)
            await stream.open()
            await site.finished(generations)
            self._finish(stream, generations)
            return await stream.close()

    def _token_prefix(self, index: int) -> bytes:
        """An event up to its text, which is all that changes from token to token."""
        if self._form is CHAT:
            choice = f'"choices":[{{"index":{index},"logprobs":null,"finish_reason":null,"delta":'
            return b"data: " + encode(self._head)[:-1] + b"," + choice.encode() + b'{"content":'
        choice = f'"choices":[{{"index":{index},"logprobs":null,"finish_reason":null,"text":'
        return b"data: " + encode(self._head)[:-1] + b"," + choice.encode()

    def tokens(self, generation: Generation, first: int, end: int) -> None:
        """Writes the new tokens; a tool call is written whole at the end instead."""
        stream = self._stream
        if stream is None:
            return
        index = self._index[generation.job.request_id]
        if first == 0 and self._form is CHAT:
            self._event(stream, index, {"delta": {"role": "assistant", "content": ""}}, generation)
        if self._call is not None:
            return
        said = tokenizer.decode(generation.job.answer[first:end])
        if end == len(generation.job.answer):
            reason = generation.job.finish_reason
            self._event(stream, index, self._form.delta(said), generation, reason, tokens=1)
            return
        text = encode(said)
        tail = b"}}]" if self._form is CHAT else b"}]"
        usage = b""
        if self._wishes.continuous_usage:
            usage = b',"usage":' + encode(self._usage_now(generation))
        event = self._prefix[index] + text + tail + usage + b"}\n\n"
        stream.write(event, tokens=end - first)

    def _usage_now(self, generation: Generation) -> Json:
        prompt = len(generation.job.prompt)
        return usage_of(prompt, generation.produced, generation.cached_tokens)

    def _event(
        self,
        stream: EventStream,
        index: int,
        content: Json,
        generation: Generation,
        reason: str | None = None,
        tokens: int = 0,
    ) -> None:
        choice = {"index": index, **content, "logprobs": None, "finish_reason": reason}
        event: Json = {**self._head, "choices": [choice]}
        if self._wishes.continuous_usage:
            event["usage"] = self._usage_now(generation)
        stream.write(b"data: " + encode(event) + b"\n\n", tokens=tokens)

    def _finish(self, stream: EventStream, generations: Sequence[Generation]) -> None:
        for index, generation in enumerate(generations):
            reason = generation.done.result()
            if self._call is not None:
                call = {"tool_calls": [{"index": 0, **self._call}]}
                reason = "tool_calls" if reason == "stop" else reason
                self._event(stream, index, {"delta": call}, generation, reason)
            elif not generation.produced:
                self._event(stream, index, self._form.delta(""), generation, reason)
        if self._wishes.include_usage:
            usage = {**self._head, "choices": [], "usage": self._site.usage(generations)}
            stream.write(b"data: " + encode(usage) + b"\n\n")
        stream.write(DONE)
