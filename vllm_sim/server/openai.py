"""OpenAI's chat and text completions, whole and streamed."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vllm_sim.server import fields
from vllm_sim.server.errors import bad_request, malformed
from vllm_sim.server.fields import Wishes
from vllm_sim.server.forms import (
    CHAT,
    TEXT,
    Form,
    Told,
    ToolCall,
    cache_details,
    encode,
    fingerprint,
    ids_of,
    usage_of,
    whole_details,
)
from vllm_sim.server.logprobs import chat_logprobs, prompt_logprobs, text_logprobs
from vllm_sim.server.sse import DONE, EventStream
from vllm_sim.server.tools import call_for
from vllm_sim.text import tokenizer
from vllm_sim.text.template import flat_text, render_chat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_sim.server.generation import Generation, Job
    from vllm_sim.server.site import Site

Json = dict[str, Any]
NOTHING_YET: Json = {"logprobs": None, "finish_reason": None}


def chat_prompt(body: Json) -> list[int]:
    """Token ids of a chat body's messages and tools."""
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise malformed("tools must be a list", "tools")
    continued = fields.flag(body, "continue_final_message")
    wanted = body.get("add_generation_prompt", True) and not continued
    text = render_chat(fields.messages(body), tools=tools, generation_prompt=bool(wanted))
    return tokenizer.encode(text)


def completion_prompts(body: Json) -> list[list[int]]:
    """The prompts of a completions body: text, token ids, or a list of either."""
    prompt = body.get("prompt")
    if prompt is None:
        raise bad_request("Either prompt or prompt_embeds must be provided.", "prompt")
    if isinstance(prompt, str):
        return [tokenizer.encode(prompt)]
    if not isinstance(prompt, list):
        raise malformed("prompt must be a string, a list of strings or token ids", "prompt")
    if not prompt:
        raise bad_request("please provide at least one prompt")
    if all(isinstance(item, str) for item in prompt):
        return [tokenizer.encode(item) for item in prompt]
    if all(_is_token(item) for item in prompt):
        return [prompt]
    if all(isinstance(item, list) and item and all(map(_is_token, item)) for item in prompt):
        return prompt
    raise malformed("prompt must be a string, a list of strings or token ids", "prompt")


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32


def last_user_text(body: Json) -> str:
    for message in reversed(fields.messages(body)):
        if message.get("role") == "user":
            return flat_text(message.get("content"))
    return ""


class OpenAI:
    """Handlers of /v1/chat/completions and /v1/completions."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await fields.read_json(request)
        said = last_user_text(body) if self._site.options.mode == "echo" else ""
        call = call_for(body, self._site.options.tools, self._site.options.seed)
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
        call: ToolCall | None,
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
        self, site: Site, form: Form, name: str, model: str, wishes: Wishes, call: ToolCall | None
    ) -> None:
        self._site = site
        self._form = form
        self._head = {"id": name, "object": form.part, "created": int(time()), "model": model}
        self._sign = {"system_fingerprint": fingerprint(site.options.version, model)}
        self._wishes = wishes
        self._call = call
        self._stream: EventStream | None = None
        self._index: dict[str, int] = {}
        self._prefix: list[bytes] = []
        self._unfinished = 0
        self._detailed = wishes.show_ids or wishes.logprobs is not None
        self._echoes = wishes.echo and form is TEXT

    async def whole(self, jobs: Sequence[Job]) -> web.Response:
        """The complete answer."""
        site, form = self._site, self._form
        async with site.generating(jobs) as generations:
            await site.finished(generations)
        told = [self._told(index, generation) for index, generation in enumerate(generations)]
        prompt, completion, cached = site.counts_of(generations)
        written = site.written_tokens(generations[0])
        body = {
            **self._head,
            "object": form.whole,
            "choices": [form.choice(one) for one in told],
            "service_tier": None,
            **self._sign,
            "usage": {**usage_of(prompt, completion), **whole_details(form, cached, written)},
            **form.rest(told[0]),
            "kv_transfer_params": site.transfer_params(generations[0]),
            "ec_transfer_params": None,
            "metrics": None,
        }
        return web.Response(body=encode(body), content_type="application/json")

    def _told(self, index: int, generation: Generation) -> Told:
        wishes, job = self._wishes, generation.job
        reason = generation.done.result()
        text = "" if reason == "cache_threshold" else generation.text()
        if wishes.echo:
            text = tokenizer.decode(job.prompt) + text
        ids = ids_of(generation, 0, generation.produced)
        scored = wishes.echo and wishes.logprobs is not None
        return Told(
            index,
            text,
            self._call.reason(reason) if self._call else reason,
            self._call,
            ids if wishes.show_ids else None,
            list(job.prompt) if wishes.show_ids else None,
            job.stop_text,
            self._logprobs([*job.prompt, *ids] if wishes.echo else ids, opening=wishes.echo),
            prompt_logprobs(job.prompt) if scored else None,
        )

    def _logprobs(self, ids: Sequence[int], *, opening: bool = False) -> Json | None:
        asked = self._wishes.logprobs
        if asked is None:
            return None
        if self._form is CHAT:
            return chat_logprobs(ids, asked)
        return text_logprobs(ids, asked, opening=opening)

    async def streamed(self, request: web.Request, jobs: Sequence[Job]) -> web.StreamResponse:
        """Headers at once, then an event for each token, then usage if asked, then [DONE]."""
        site = self._site
        self._index = {job.request_id: index for index, job in enumerate(jobs)}
        self._prefix = [self._token_prefix(index) for index in range(len(jobs))]
        self._unfinished = len(jobs)
        async with site.generating(jobs, self) as generations:
            self._stream = stream = site.stream(request)
            await stream.open()
            await site.finished(generations)
            self._finish(stream, generations)
            return await stream.close()

    def _token_prefix(self, index: int) -> bytes:
        """An event up to its text, which is all that changes from token to token."""
        choice = b'"choices":[{"index":%d,' % index
        return b"data: " + encode(self._head)[:-1] + b"," + choice + self._form.opening

    def tokens(self, generation: Generation, first: int, end: int) -> None:
        """Writes the new tokens; a tool call is written whole at the end instead."""
        stream = self._stream
        if stream is None:
            return
        index = self._index[generation.job.request_id]
        if first == 0:
            self._open(stream, index, generation)
        if self._call is not None:
            return
        if end == len(generation.job.answer) or self._detailed or (self._echoes and first == 0):
            self._event(stream, index, generation, first, end)
            return
        text = encode(tokenizer.decode(generation.job.answer[first:end]))
        usage = b""
        if self._wishes.continuous_usage:
            usage = b',"usage":' + encode(self._usage_now(generation))
        event = self._prefix[index] + text + self._form.closing + usage + b"}\n\n"
        stream.write(event, tokens=end - first)

    def _open(self, stream: EventStream, index: int, generation: Generation) -> None:
        """What comes before the first token: a chat says whose turn it is."""
        if self._form is CHAT:
            shown = list(generation.job.prompt) if self._wishes.show_ids else None
            first = {"delta": {"role": "assistant", "content": ""}}
            top = {"prompt_token_ids": shown, "prompt_text": None}
            self._write(stream, generation, {"index": index, **first, **NOTHING_YET}, top)

    def _event(
        self, stream: EventStream, index: int, generation: Generation, first: int, end: int
    ) -> None:
        """A token's event with all that may stand in it: ids, and the reason in the last."""
        wishes, job = self._wishes, generation.job
        reason = job.finish_reason if end == len(job.answer) else None
        ids = ids_of(generation, first, end)
        begun = self._form is TEXT and first == 0
        echoed = list(job.prompt) if begun and wishes.echo else []
        said = self._form.delta(tokenizer.decode([*echoed, *ids]))
        choice = {"index": index, **said, "token_ids": ids if wishes.show_ids else None}
        choice["logprobs"] = self._logprobs(ids)
        if begun and (wishes.show_ids or wishes.echo):
            choice["prompt_token_ids"] = list(job.prompt)
        self._end(stream, generation, choice, reason, tokens=end - first)

    def _end(
        self,
        stream: EventStream,
        generation: Generation,
        choice: Json,
        reason: str | None,
        tokens: int = 0,
    ) -> None:
        """The choice with its reason, if it has one; the stream's last also carries the sign."""
        choice["finish_reason"] = reason
        top: Json = {}
        if reason is not None:
            choice["stop_reason"] = generation.job.stop_text
            self._unfinished -= 1
            if not self._unfinished and not self._wishes.include_usage:
                top = self._sign
        self._write(stream, generation, choice, top, tokens)

    def _write(
        self,
        stream: EventStream,
        generation: Generation,
        choice: Json,
        top: Json | None = None,
        tokens: int = 0,
    ) -> None:
        event: Json = {**self._head, "choices": [choice], **(top or {})}
        if self._wishes.continuous_usage:
            event["usage"] = self._usage_now(generation)
        stream.write(b"data: " + encode(event) + b"\n\n", tokens=tokens)

    def _usage_now(self, generation: Generation) -> Json:
        counts = usage_of(len(generation.job.prompt), generation.produced)
        return {**counts, **self._form.details}

    def _finish(self, stream: EventStream, generations: Sequence[Generation]) -> None:
        for index, generation in enumerate(generations):
            reason = generation.done.result()
            choice: Json = {"index": index, "logprobs": None, "token_ids": None}
            if self._call is not None:
                *deltas, last = self._call.deltas()
                for delta in deltas:
                    self._end(stream, generation, {**choice, "delta": delta}, None)
                ended = self._call.reason(reason)
                self._end(stream, generation, {**choice, "delta": last}, ended)
            elif not generation.produced:
                self._end(stream, generation, {**choice, **self._form.delta("")}, reason)
        if self._wishes.include_usage:
            prompt, completion, cached = self._site.counts_of(generations)
            written = self._site.written_tokens(generations[0])
            details = {"prompt_tokens_details": cache_details(self._form, cached, written)}
            usage = {"usage": {**usage_of(prompt, completion), **details}}
            event = {**self._head, "choices": [], **usage, **self._sign}
            stream.write(b"data: " + encode(event) + b"\n\n")
        stream.write(DONE)
