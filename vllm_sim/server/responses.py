"""OpenAI's responses API, its basic form: text in, one message out, nothing stored."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from vllm_sim.server import fields
from vllm_sim.server.errors import bad_request
from vllm_sim.server.fields import Wishes
from vllm_sim.server.plain import answer
from vllm_sim.server.sse import EventStream
from vllm_sim.text import tokenizer
from vllm_sim.text.template import flat_text, render_chat

if TYPE_CHECKING:
    from vllm_sim.server.generation import Generation, Job
    from vllm_sim.server.site import Site

Json = dict[str, Any]


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
    raise bad_request("input must be a string or a list of messages", "input")


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
        reply = ResponseReply(site, rid, model)
        return await (reply.streamed(request, job) if wishes.stream else reply.whole(job))


class ResponseReply:
    """One response on its way out; also the listener of its generation."""

    def __init__(self, site: Site, rid: str, model: str) -> None:
        self._site = site
        self._rid = rid
        self._model = model
        self._created = int(time())
        self._stream: EventStream | None = None
        self._number = 0

    def _item(self, text: str, status: str) -> Json:
        part = {"type": "output_text", "text": text, "annotations": []}
        return {
            "id": f"msg_{self._rid}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [part],
        }

    def _response(self, generation: Generation, *, final: bool) -> Json:
        cut = final and generation.done.result() == "length"
        status = "in_progress" if not final else "incomplete" if cut else "completed"
        return {
            "id": f"resp_{self._rid}",
            "object": "response",
            "created_at": self._created,
            "model": self._model,
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": [self._item(generation.text(), "completed")] if final else [],
            "usage": self._usage(generation) if final else None,
        }

    def _usage(self, generation: Generation) -> Json:
        prompt, said = len(generation.job.prompt), generation.produced
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": generation.cached_tokens},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": 0},
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
            self._stream = stream = EventStream(request, {})
            await stream.open()
            self._send("response.created", {"response": self._response(generation, final=False)})
            await self._site.finished(generations)
            text = generation.text()
            self._send("response.output_text.done", {"output_index": 0, "text": text})
            item = self._item(text, "completed")
            self._send("response.output_item.done", {"output_index": 0, "item": item})
            done = self._response(generation, final=True)
            self._send("response.completed", {"response": done})
            return await stream.close()

    def tokens(self, generation: Generation, first: int, end: int) -> None:
        if first == 0:
            item = self._item("", "in_progress")
            self._send("response.output_item.added", {"output_index": 0, "item": item})
        text = tokenizer.decode(generation.job.answer[first:end])
        self._send("response.output_text.delta", {"output_index": 0, "delta": text}, tokens=1)

    def _send(self, kind: str, fields: Json, *, tokens: int = 0) -> None:
        if self._stream is not None:
            body = {"type": kind, "sequence_number": self._number, **fields}
            self._number += 1
            data = msgspec.json.encode(body)
            self._stream.write(b"event: %b\ndata: %b\n\n" % (kind.encode(), data), tokens=tokens)
