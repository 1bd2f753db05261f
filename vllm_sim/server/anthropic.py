"""Anthropic's messages API, as vLLM serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from vllm_sim.server import fields
from vllm_sim.server.errors import malformed
from vllm_sim.server.fields import Wishes
from vllm_sim.server.plain import answer
from vllm_sim.server.sse import EventStream
from vllm_sim.text import tokenizer
from vllm_sim.text.template import flat_text, render_chat

if TYPE_CHECKING:
    from vllm_sim.server.generation import Generation, Job
    from vllm_sim.server.site import Site

Json = dict[str, Any]
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}


def messages_prompt(body: Json) -> list[int]:
    """Token ids of a messages body: system text, tools, turns."""
    rows: list[Json] = []
    if body.get("system"):
        rows.append({"role": "system", "content": flat_text(body["system"])})
    rows += fields.messages(body)
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise malformed("tools must be a list", "tools")
    return tokenizer.encode(render_chat(rows, tools=tools))


class Anthropic:
    """Handlers of /v1/messages and /v1/messages/count_tokens."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def count_tokens(self, request: web.Request) -> web.Response:
        body = await fields.read_json(request)
        self._site.models.resolve(body.get("model"))
        count = len(messages_prompt(body))
        context = {"original_input_tokens": count}
        return answer({"input_tokens": count, "context_management": context})

    async def messages(self, request: web.Request) -> web.StreamResponse:
        body = await fields.read_json(request)
        if body.get("max_tokens") is None:
            raise malformed("max_tokens is required", "max_tokens")
        site, wishes = self._site, Wishes.of(body)
        lora = site.models.resolve(body.get("model"))
        model = str(body.get("model") or site.models.names[0])
        prompt = messages_prompt(body)
        said = flat_text(fields.messages(body)[-1].get("content"))
        rid = site.request_id(request)
        told = site.answer(prompt, wishes, said=said)
        job = site.job(request, prompt, told, wishes, model=model, lora=lora, request_id=rid)
        reply = MessageReply(site, f"chatcmpl-{rid}", model)
        return await (reply.streamed(request, job) if wishes.stream else reply.whole(job))


class MessageReply:
    """One message on its way out; also the listener of its generation."""

    def __init__(self, site: Site, name: str, model: str) -> None:
        self._site = site
        self._name = name
        self._model = model
        self._stream: EventStream | None = None

    def _message(self, content: list[Json], usage: Json, **stop: str | None) -> Json:
        return {
            "id": self._name,
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": self._model,
            **stop,
            "usage": usage,
        }

    def _usage(self, generation: Generation) -> Json:
        written = self._site.written_tokens(generation)
        return {
            "input_tokens": len(generation.job.prompt) - generation.cached_tokens - written,
            "output_tokens": generation.produced,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": generation.cached_tokens,
        }

    async def whole(self, job: Job) -> web.Response:
        """The complete message."""
        async with self._site.generating([job]) as generations:
            await self._site.finished(generations)
        generation = generations[0]
        content = [{"type": "text", "text": generation.text()}]
        reason = STOP_REASONS.get(generation.done.result(), generation.done.result())
        return answer(self._message(content, self._usage(generation), stop_reason=reason))

    async def streamed(self, request: web.Request, job: Job) -> web.StreamResponse:
        """message_start at once, a delta for each token, the reason and usage at the end."""
        site = self._site
        async with site.generating([job], self) as generations:
            generation = generations[0]
            self._stream = stream = site.stream(request)
            await stream.open()
            await site.finished(generations)
            self._finish(generation)
            return await stream.close()

    def tokens(self, generation: Generation, first: int, end: int) -> None:
        if first == 0:
            usage = {"input_tokens": len(generation.job.prompt), "output_tokens": 0}
            start = self._message([], usage, stop_reason=None, stop_sequence=None)
            self._send("message_start", {"message": start})
            block = {"type": "text", "text": ""}
            self._send("content_block_start", {"index": 0, "content_block": block})
        text = tokenizer.decode(generation.job.answer[first:end])
        delta = {"type": "text_delta", "text": text}
        self._send("content_block_delta", {"index": 0, "delta": delta}, tokens=end - first)

    def _finish(self, generation: Generation) -> None:
        reason = STOP_REASONS.get(generation.done.result(), generation.done.result())
        self._send("content_block_stop", {"index": 0})
        delta = {"stop_reason": reason, "stop_sequence": None}
        self._send("message_delta", {"delta": delta, "usage": self._usage(generation)})
        self._send("message_stop", {})

    def _send(self, kind: str, fields: Json, *, tokens: int = 0) -> None:
        if self._stream is not None:
            data = msgspec.json.encode({"type": kind, **fields})
            self._stream.write(b"event: %b\ndata: %b\n\n" % (kind.encode(), data), tokens=tokens)
