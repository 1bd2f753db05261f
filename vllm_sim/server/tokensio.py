"""Token ids in: /inference/v1/generate, the render doors, and embeddings."""

from __future__ import annotations

import base64
import struct
from math import sqrt
from random import Random
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vllm_sim.server import fields
from vllm_sim.server.anthropic import messages_prompt
from vllm_sim.server.errors import bad_request
from vllm_sim.server.fields import Wishes, check_length
from vllm_sim.server.forms import TEXT, usage_of, whole_details
from vllm_sim.server.generate import GenerateReply, generate_wishes
from vllm_sim.server.openai import chat_prompt, completion_prompts
from vllm_sim.server.plain import answer
from vllm_sim.server.responses import input_rows
from vllm_sim.text import tokenizer
from vllm_sim.text.answers import Answer
from vllm_sim.text.template import render_chat

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_sim.server.site import Site

Json = dict[str, Any]
MAX_INPUTS = 2048


PREFIXES = {"/v1/completions/render": "cmpl-", "/v1/responses/render": "resp_"}
RENDERED: Json = {
    "token_offsets": None,
    "features": None,
    "content_parts": None,
    "reasoning_ended": None,
    "reasoning_parser_kwargs": None,
    "return_token_ids": None,
    "output_mode": "tokens",
    "stream_options": None,
    "ec_transfer_params": None,
}
"""What a rendered request says of features that the simulator has not."""


def sampling_of(body: Json, room: int) -> Json:
    """The sampling parameters of a rendered request; its limit is the room where none is given."""
    names = ("max_completion_tokens", "max_tokens", "max_output_tokens")
    limit = next((body[name] for name in names if body.get(name) is not None), room)
    numbers = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}
    chances = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0}
    told: Json = {
        **{name: fields.number(body, name, usual) for name, usual in (numbers | chances).items()},
        "stop": [],
        "stop_token_ids": [],
        "max_tokens": limit,
        "output_kind": 2,
        "skip_clone": True,
        "bad_words": [],
        "skip_reading_prefix_cache": False,
    }
    return {**told, "extra_args": {}} if "input" in body else told


class TokensIO:
    """Handlers that work on token ids rather than text."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Token ids in, token ids out."""
        body = await fields.read_json(request)
        site, wishes = self._site, generate_wishes(body)
        prompt = completion_prompts({"prompt": body["token_ids"]})[0]
        lora = site.models.resolve(body.get("model"))
        told = site.answer(prompt, wishes, said=tokenizer.decode(prompt))
        rid = str(body.get("request_id") or site.request_id(request))
        model = str(body.get("model") or site.models.names[0])
        job = site.job(request, prompt, told, wishes, model=model, lora=lora, request_id=rid)
        reply = GenerateReply(site, f"generate-{rid}", model, wishes)
        return await (reply.streamed(request, job) if wishes.stream else reply.whole(job))

    async def render_chat(self, request: web.Request) -> web.Response:
        return await self._render(request, lambda body: [chat_prompt(body)])

    async def render_completion(self, request: web.Request) -> web.Response:
        return await self._render(request, completion_prompts)

    async def render_messages(self, request: web.Request) -> web.Response:
        return await self._render(request, lambda body: [messages_prompt(body)])

    async def render_responses(self, request: web.Request) -> web.Response:
        return await self._render(
            request, lambda body: [tokenizer.encode(render_chat(input_rows(body)))]
        )

    async def _render(
        self, request: web.Request, prompts: Callable[[Json], list[list[int]]]
    ) -> web.Response:
        """What would be generated from: token ids; a list for completions, else one object."""
        body = await fields.read_json(request)
        site = self._site
        site.models.resolve(body.get("model"))
        rid = site.request_id(request)
        prefix = PREFIXES.get(request.path, "chatcmpl-")
        model = body.get("model") or site.models.names[0]
        rows = [
            {
                "request_id": f"{prefix}{rid}-{number}" if number else f"{prefix}{rid}",
                "model": model,
                "token_ids": tokens,
                "sampling_params": sampling_of(body, site.replica.model_len - len(tokens)),
                "cache_salt": body.get("cache_salt"),
                "priority": body.get("priority") or 0,
                "stream": fields.flag(body, "stream"),
                "kv_transfer_params": body.get("kv_transfer_params"),
                **RENDERED,
            }
            for number, tokens in enumerate(prompts(body))
        ]
        return answer(rows if request.path == "/v1/completions/render" else rows[0])

    async def embeddings(self, request: web.Request) -> web.Response:
        """Unit vectors drawn from the tokens; each input is a prefill without a decode."""
        body = await fields.read_json(request)
        site = self._site
        if "messages" in body:
            prompts = [chat_prompt(body)]
        else:
            prompts = completion_prompts({"prompt": body.get("input")})
        if len(prompts) > MAX_INPUTS:
            raise bad_request(f"input must hold at most {MAX_INPUTS} texts", "input")
        size = fields.integer(body, "dimensions", site.options.embedding_dimensions, least=1)
        wishes = Wishes.of({"priority": body.get("priority")})
        lora = site.models.resolve(body.get("model"))
        model = str(body.get("model") or site.models.names[0])
        rid = site.request_id(request)
        for prompt in prompts:
            check_length(len(prompt), None, site.replica.model_len + 1)
        none = Answer([], "stop")
        jobs = [
            site.job(request, prompt, none, wishes, model=model, lora=lora, request_id=rid)
            for prompt in prompts
        ]
        async with site.generating(jobs) as generations:
            await site.finished(generations)
        packed = body.get("encoding_format") == "base64"
        rows = [
            {"object": "embedding", "index": index, "embedding": _vector(prompt, size or 1, packed)}
            for index, prompt in enumerate(prompts)
        ]
        usage = _usage(*site.counts_of(generations))
        return answer(
            {"id": f"embd-{rid}", "object": "list", "model": model, "data": rows, "usage": usage}
        )


def _usage(prompt: int, completion: int, cached: int) -> Json:
    return {**usage_of(prompt, completion), **whole_details(TEXT, cached, 0)}


def _vector(tokens: list[int], size: int, packed: bool) -> list[float] | str:
    rng = Random(",".join(map(str, tokens)))
    values = [rng.gauss(0, 1) for _ in range(size)]
    norm = sqrt(sum(value * value for value in values)) or 1.0
    unit = [value / norm for value in values]
    if packed:
        return base64.b64encode(struct.pack(f"<{size}f", *unit)).decode()
    return unit
