"""OpenAI's responses API, its basic form: text in, one message out, nothing stored."""

from __future__ import annotations

from time import time
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
SETTINGS: Json = {
    "metadata": None,
    "parallel_tool_calls": True,
    "tool_choice": "none",
    "tools": [],
    "background": False,
    "max_tool_calls": None,
    "previous_response_id": None,
    "prompt": None,
    "reasoning": None,
    "service_tier": "auto",
    "text": None,
    "top_logprobs": None,
    "truncation": "disabled",
    "user": None,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "kv_transfer_params": None,
    "ec_transfer_params": None,
    "input_messages": None,
    "output_messages": None,
}
"""What every response object repeats of a request that asked for none of it."""


def input_rows(body: Json) -> list[Json]:
    """The conversation behind `instructions` and `input`."""
    given = body.get("input")
    rows: list[Json] = []
    if body.get("instructions"):
        rows.append({"role": "system", "content": str(body["instructions"])})
    if isinstance(given, str):
        return [*rows, {"role": "user", "content": given}]
    if isinstance(given, list) and given and all(isinstance(item, dict) for item in given):
        turns = [
            {"role": str(item.get("role", "user")), "content": item.get("content", "")}
            for item in given
        ]
        return [*rows, *turns]
    raise malformed("input must be a string or a list of messages", "input")


class Responses:
    """Handler of /v1/responses."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await fields.read_json(request)
        site, wishes = self._site, Wishes.of(body, limit="max_output_tokens")
        lora = site.models.resolve(body.get("model"))
        model = str(body.get("model") or site.models.names[0])
        rows = input_rows(body)
        prompt = tokenizer.encode(render_chat(rows))
        told = site.answer(prompt, wishes, said=flat_text(rows[-1]["content"]))
        rid = site.request_id(request)
        job = site.job(request, prompt, told, wishes, model=model, lora=lora, request_id=rid)
        limit = wishes.max_tokens or site.replica.model_len - len(prompt)
        reply = ResponseReply(site, rid, model, body, limit)
        return await (reply.streamed(request, job) if wishes.stream else reply.whole(job))


class ResponseReply:
    """One response on its way out; also the listener of its generation."""

    def __init__(self, site: Site, rid: str, model: str, body: Json, limit: int) -> None:
        self._site = site
        self._rid = rid
        self._model = model
        self._body = body
        self._limit = limit
        self._created = int(time())
        self._stream: EventStream | None = None
        self._number = 0

    @property
    def _message(self) -> str:
        return f"msg_{self._rid}"

    def _item(self, content: list[Json], status: str) -> Json:
        return {
            "id": self._message,
            "content": content,
            "role": "assistant",
            "status": status,
            "type": "message",
            "phase": None,
        }

    def _response(self, generation: Generation, *, final: bool) -> Json:
        cut = final and generation.done.result() == "length"
        return {
            "id": f"resp_{self._rid}",
            "created_at": self._created,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": self._body.get("instructions"),
            "model": self._model,
            "object": "response",
            "output": [self._item([part_of(generation.text())], "completed")] if final else [],
            "temperature": fields.number(self._body, "temperature", 1.0),
            "top_p": fields.number(self._body, "top_p", 1.0),
            "max_output_tokens": self._limit,
            "status": "in_progress" if not final else "incomplete" if cut else "completed",
            "usage": self._usage(generation) if final else None,
            **SETTINGS,
        }

    def _usage(self, generation: Generation) -> Json:
        prompt, said = len(generation.job.prompt), generation.produced
        turns: Json = {"input_tokens_per_turn": [], "cached_tokens_per_turn": []}
        out_turns: Json = {"output_tokens_per_turn": [], "tool_output_tokens_per_turn": []}
        written = self._site.written_tokens(generation)
        cache = {"cached_tokens": generation.cached_tokens, "cache_write_tokens": written}
        return {
            "input_tokens": prompt,
            "input_tokens_details": {**cache, **turns},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 0, **out_turns},
            "total_tokens": prompt + said,
        }

    async def whole(self, job: Job) -> web.Response:
        """The complete response object."""
        async with self._site.generating([job]) as generations:
            await self._site.finished(generations)
        return answer(self._response(generations[0], final=True))

    async def streamed(self, request: web.Request, job: Job) -> web.StreamResponse:
        """created, a delta for each token, done and completed."""
        async with self._site.generating([job], self) as generations:
            generation = generations[0]
            self._stream = stream = self._site.stream(request)
            await stream.open()
            for kind in ("response.created", "response.in_progress"):
                self._send(kind, {"response": self._response(generation, final=False)})
            await self._site.finished(generations)
            self._finish(generation)
            return await stream.close()

    def _finish(self, generation: Generation) -> None:
        text = generation.text()
        part = part_of(text)
        self._send_part("response.output_text.done", {"text": text, "logprobs": []})
        self._send_part("response.content_part.done", {"part": part})
        item = self._item([part], "completed")
        self._send("response.output_item.done", {"output_index": 0, "item": item})
        self._send("response.completed", {"response": self._response(generation, final=True)})

    def tokens(self, generation: Generation, first: int, end: int) -> None:
        if first == 0:
            item = self._item([], "in_progress")
            self._send("response.output_item.added", {"output_index": 0, "item": item})
            self._send_part("response.content_part.added", {"part": part_of("", [])})
        text = tokenizer.decode(generation.job.answer[first:end])
        said = {"delta": text, "logprobs": []}
        self._send_part("response.output_text.delta", said, tokens=end - first)

    def _send_part(self, kind: str, said: Json, *, tokens: int = 0) -> None:
        place = {"content_index": 0, "item_id": self._message, "output_index": 0}
        self._send(kind, {**place, **said}, tokens=tokens)

    def _send(self, kind: str, said: Json, *, tokens: int = 0) -> None:
        if self._stream is not None:
            body = {**said, "sequence_number": self._number, "type": kind}
            self._number += 1
            data = msgspec.json.encode(body)
            self._stream.write(b"event: %b\ndata: %b\n\n" % (kind.encode(), data), tokens=tokens)


def part_of(text: str, logprobs: list[Json] | None = None) -> Json:
    """The text as a part of a message."""
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}
