"""The small doors of vLLM's server: models, health, load, version, tokens, adapters, sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from vllm_sim.engine.power import TAGS
from vllm_sim.server import fields
from vllm_sim.server.errors import ApiError, bad_request
from vllm_sim.server.openai import chat_prompt, completion_prompts
from vllm_sim.text import tokenizer

if TYPE_CHECKING:
    from vllm_sim.server.site import Site

SLEEP_MODES = ("abort", "wait", "keep")


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
        tokens = chat_prompt(body) if "messages" in body else completion_prompts(body)[0]
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
            raise bad_request("tokens must be a list of token ids", "tokens")
        return answer({"prompt": tokenizer.decode(tokens)})

    async def load_lora(self, request: web.Request) -> web.Response:
        return web.Response(text=self._site.models.load(await fields.read_json(request)))

    async def unload_lora(self, request: web.Request) -> web.Response:
        body = await fields.read_json(request)
        text = self._site.models.unload(body)
        self._site.replica.engine.loras.drop(str(body["lora_name"]))
        return web.Response(text=text)

    async def sleep(self, request: web.Request) -> web.Response:
        level = _level(request.query.get("level", "1"))
        mode = request.query.get("mode", "abort")
        if mode not in SLEEP_MODES:
            raise bad_request(f"mode must be one of {', '.join(SLEEP_MODES)}", "mode")
        await self._site.replica.sleep(level, mode)
        return answer({"status": "sleeping", "level": level})

    async def wake_up(self, request: web.Request) -> web.Response:
        tags = request.query.getall("tags", [])
        chosen = [tag for tag in TAGS if tag in tags]
        if len(chosen) != len(set(tags)):
            raise bad_request(f"tags must be among {', '.join(TAGS)}", "tags")
        replica = self._site.replica
        replica.engine.wake(chosen, self._site.clock.now())
        replica.woken()
        status = "sleeping" if replica.engine.power.sleeping else "awake"
        return answer({"status": status, "tags": tags or None})

    async def is_sleeping(self, request: web.Request) -> web.Response:
        return answer({"is_sleeping": self._site.replica.engine.power.sleeping})

    async def reset_prefix_cache(self, request: web.Request) -> web.Response:
        done = self._site.replica.engine.reset_prefix_cache()
        self._site.replica.woken()
        return answer({"success": done})

    async def event_sources(self, request: web.Request) -> web.Response:
        """Where each data-parallel rank publishes its KV events."""
        publisher = self._site.replica.publisher
        if publisher is None:
            return answer({"sources": []})
        source = {
            "data_parallel_rank": self._site.replica.rank,
            "publisher": "zmq",
            "endpoint": publisher.endpoint,
            "replay_endpoint": publisher.replay_endpoint or None,
            "topic": publisher.topic.decode(),
            "block_size": self._site.options.block_size,
            "engine_id": self._site.replica.engine_id,
        }
        return answer({"sources": [source]})

    async def unknown(self, request: web.Request) -> web.Response:
        raise ApiError(404, "Not Found")


def _level(text: str) -> int:
    if text not in ("0", "1", "2"):
        raise bad_request("level must be 0, 1 or 2", "level")
    return int(text)
