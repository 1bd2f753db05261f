"""The small doors of vLLM's server: models, health, load, version, tokens, adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from vllm_sim.kvevents.publisher import HIGH_WATER
from vllm_sim.server import fields
from vllm_sim.server.errors import malformed
from vllm_sim.server.openai import chat_prompt
from vllm_sim.text import tokenizer

if TYPE_CHECKING:
    from vllm_sim.server.site import Site


def answer(body: Any, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )


class Plain:
    """Handlers that need no generation."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def models(self, request: web.Request) -> web.Response:
        return answer(self._site.models.listing())

    async def version(self, request: web.Request) -> web.Response:
        return answer({"version": str(self._site.replica.version)})

    async def load(self, request: web.Request) -> web.Response:
        return answer({"server_load": self._site.replica.open_requests})

    async def health(self, request: web.Request) -> web.Response:
        """200 as long as the process lives, start-up included."""
        return web.Response(status=503 if self._site.faults.health == "failing" else 200)

    async def ready(self, request: web.Request) -> web.Response:
        """200 once the model is loaded and while nothing drains."""
        up = self._site.replica.ready and not self._site.draining
        return web.Response(status=200 if up and self._site.faults.health == "ok" else 503)

    async def tokenize(self, request: web.Request) -> web.Response:
        body = await fields.read_json(request)
        self._site.models.resolve(body.get("model"))
        tokens = chat_prompt(body) if "messages" in body else _text_tokens(body)
        shown = None
        if fields.flag(body, "return_token_strs"):
            shown = [tokenizer.decode([token]) for token in tokens]
        length = self._site.replica.model_len
        return answer(
            {"count": len(tokens), "max_model_len": length, "tokens": tokens, "token_strs": shown}
        )

    async def detokenize(self, request: web.Request) -> web.Response:
        body = await fields.read_json(request)
        self._site.models.resolve(body.get("model"))
        tokens = body.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(item, int) for item in tokens):
            raise malformed("tokens must be a list of token ids", "tokens")
        return answer({"prompt": tokenizer.decode(tokens)})

    async def load_lora(self, request: web.Request) -> web.Response:
        return web.Response(text=self._site.models.load(await fields.read_json(request)))

    async def unload_lora(self, request: web.Request) -> web.Response:
        body = await fields.read_json(request)
        text = self._site.models.unload(body)
        self._site.replica.engine.loras.drop(str(body["lora_name"]))
        return web.Response(text=text)

    async def query(self, request: web.Request) -> web.Response:
        """What a Mooncake bootstrap server tells a decode replica: the engine behind each rank."""
        ranks = self._site.ranks.items()
        return answer({str(rank): {"engine_id": one.engine_id} for rank, one in ranks})

    async def event_sources(self, request: web.Request) -> web.Response:
        """The publisher's settings under the data-parallel rank; empty where none publishes."""
        publisher = self._site.replica.publisher
        if publisher is None:
            return answer({})
        source = {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": publisher.endpoint,
            "replay_endpoint": publisher.replay_endpoint or None,
            "buffer_steps": publisher.options.buffer_steps,
            "hwm": HIGH_WATER,
            "max_queue_size": HIGH_WATER,
            "topic": publisher.topic.decode(),
        }
        return answer({str(self._site.replica.rank): source})


def _text_tokens(body: dict[str, Any]) -> list[int]:
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise malformed("prompt must be a string", "prompt")
    return tokenizer.encode(prompt)
