"""Answers of /inference/v1/generate: token ids, whole or streamed."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from vllm_sim.server import fields
from vllm_sim.server.errors import malformed
from vllm_sim.server.fields import Wishes
from vllm_sim.server.forms import TEXT, ids_of, usage_of, whole_details
from vllm_sim.server.plain import answer
from vllm_sim.server.sse import DONE, EventStream

if TYPE_CHECKING:
    from vllm_sim.server.generation import Generation, Job
    from vllm_sim.server.site import Site

Json = dict[str, Any]
OUTER = ("kv_transfer_params", "priority", "cache_salt", "stream", "stream_options")
MODE: Json = {"output_mode": "tokens"}


def generate_wishes(body: Json) -> Wishes:
    """The wishes of a body whose sampling fields stand in an object of their own."""
    if not isinstance(body.get("token_ids"), list) or not body["token_ids"]:
        raise malformed("token_ids must be a list of token ids", "token_ids")
    sampling = fields.mapping(body, "sampling_params")
    return Wishes.of({**sampling, **{name: body.get(name) for name in OUTER}})


class GenerateReply:
    """One answer on its way out; also the listener of its generation."""

    def __init__(self, site: Site, name: str, model: str, wishes: Wishes) -> None:
        self._site = site
        self._name = name
        self._model = model
        self._wishes = wishes
        self._stream: EventStream | None = None

    def _choice(self, generation: Generation, first: int, end: int, reason: str | None) -> Json:
        span = {"start": 0, "end": generation.produced, "version": "0"}
        return {
            "index": 0,
            "finish_reason": reason,
            "stop_reason": None,
            "token_ids": ids_of(generation, first, end),
            "routed_experts": None,
            "sampling_mask": None,
            "weight_versions": [span] if reason else None,
            "logprobs": None,
        }

    def _usage(self, generation: Generation) -> Json:
        prompt, completion, cached = self._site.counts_of([generation])
        return {**usage_of(prompt, completion), **whole_details(TEXT, cached, 0)}

    async def whole(self, job: Job) -> web.Response:
        """The complete answer."""
        async with self._site.generating([job]) as generations:
            await self._site.finished(generations)
        made = generations[0]
        body = {
            "request_id": self._name,
            "model": self._model,
            "created": int(time()),
            "choices": [self._choice(made, 0, made.produced, made.done.result())],
            "prompt_logprobs": None,
            "prompt_token_id_logprobs": None,
            "prompt_token_ids": None,
            "mm_placeholders": None,
            "usage": self._usage(made),
            "kv_transfer_params": self._site.transfer_params(made),
            "ec_transfer_params": None,
            "metrics": None,
            **MODE,
        }
        return answer(body)

    async def streamed(self, request: web.Request, job: Job) -> web.StreamResponse:
        """An event for each token, then usage if asked, then [DONE]."""
        async with self._site.generating([job], self) as generations:
            self._stream = stream = self._site.stream(request)
            await stream.open()
            await self._site.finished(generations)
            if self._wishes.include_usage:
                self._send([], self._usage(generations[0]))
            stream.write(DONE)
            return await stream.close()

    def tokens(self, generation: Generation, first: int, end: int) -> None:
        last = end == len(generation.job.answer)
        reason = generation.job.finish_reason if last else None
        self._send([self._choice(generation, first, end, reason)], None, tokens=end - first)

    def _send(self, choices: list[Json], usage: Json | None, *, tokens: int = 0) -> None:
        if self._stream is not None:
            event = {"request_id": self._name, "choices": choices, "usage": usage, **MODE}
            self._stream.write(b"data: " + msgspec.json.encode(event) + b"\n\n", tokens=tokens)
