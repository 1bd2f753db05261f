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


class TokensIO:
    """Handlers that work on token ids rather than text."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def generate(self, request: web.Request) -> web.Response:
        """Token ids in, token ids out; never streamed."""
        body = await fields.read_json(request)
        site = self._site
        tokens = body.get("token_ids")
        if not isinstance(tokens, list):
            raise bad_request("token_ids must be a list of token ids", "token_ids")
        prompt = completion_prompts({"prompt": tokens})[0]
        sampling = {**fields.mapping(body, "sampling_params")}
        outer = ("kv_transfer_params", "priority", "cache_salt")
        wishes = Wishes.of({**sampling, **{name: body.get(name) for name in outer}})
        lora = site.models.resolve(body.get("model"))
        told = site.answer(prompt, wishes, said=tokenizer.decode(prompt))
        rid = str(body.get("request_id") or site.request_id(request))
        model = str(body.get("model") or site.models.names[0])
        job = site.job(request, prompt, told, wishes, model=model, lora=lora, request_id=rid)
        async with site.generating([job]) as generations:
            await site.finished(generations)
        made = generations[0]
        choice = {
            "index": 0,
            "token_ids": list(job.answer[: made.produced]),
            "finish_reason": made.done.result(),
            "logprobs": None,
        }
        return answer(
            {
                "request_id": rid,
                "choices": [choice],
                "prompt_logprobs": None,
                "kv_transfer_params": site.transfer_params(made),
                "usage": _usage(*site.counts_of(generations)),
            }
        )

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
        rows = [
            {
                "request_id": f"{rid}-{number}",
                "model": body.get("model") or site.models.names[0],
                "token_ids": tokens,
                "sampling_params": {"max_tokens": body.get("max_tokens")},
                "features": None,
                "cache_salt": body.get("cache_salt"),
                "priority": body.get("priority") or 0,
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
