"""The small doors of vLLM's server: models, health, load, version, tokens, adapters, sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from vllm_sim.engine.power import TAGS
from vllm_sim.kvevents.publisher import HIGH_WATER
from vllm_sim.server import fields
from vllm_sim.server.errors import Malformed, malformed
from vllm_sim.server.openai import chat_prompt
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

    async def sleep(self, request: web.Request) -> web.Response:
        level = _level(request.query.get("level", "1"))
        mode = request.query.get("mode", "abort")
        if mode not in SLEEP_MODES:
            raise Malformed(f"mode must be one of {', '.join(SLEEP_MODES)}", "query.mode")
        await self._site.replica.sleep(level, mode)
        return answer({"status": "sleeping", "level": level})

    async def wake_up(self, request: web.Request) -> web.Response:
        """Wakes what the tags name. Level 0 took no memory away, so any call ends it."""
        tags = request.query.getall("tags", [])
        return answer({"status": self._woken(tags), "tags": tags or None})

    def _woken(self, tags: list[str]) -> str:
        replica = self._site.replica
        chosen = [tag for tag in TAGS if tag in tags]
        if replica.engine.power.level == 0:
            chosen = ["scheduling"]
        if chosen or not tags:
            replica.engine.wake(chosen, self._site.clock.now())
            replica.woken()
        return "sleeping" if replica.engine.power.sleeping else "awake"

    async def is_sleeping(self, request: web.Request) -> web.Response:
        return answer({"is_sleeping": self._site.replica.engine.power.sleeping})

    async def pause(self, request: web.Request) -> web.Response:
        """Stops scheduling, as sleep level 0 does."""
        mode = request.query.get("mode", "abort")
        if mode not in SLEEP_MODES:
            raise Malformed(f"mode must be one of {', '.join(SLEEP_MODES)}", "query.mode")
        await self._site.replica.sleep(0, mode)
        return answer({"status": "paused"})

    async def resume(self, request: web.Request) -> web.Response:
        self._woken(["scheduling"])
        return answer({"status": "resumed"})

    async def is_paused(self, request: web.Request) -> web.Response:
        return answer({"is_paused": self._site.replica.engine.power.sleeping})

    async def abort_requests(self, request: web.Request) -> web.Response:
        """Ends the requests of the given ids, all of them where none is given."""
        body = await fields.read_json(request)
        ids = body.get("request_ids")
        if ids is not None and not isinstance(ids, list):
            raise malformed("request_ids must be a list of request ids", "request_ids")
        count = self._site.replica.abort_all(ids or ())
        return answer({"status": "aborted", "aborted": count})

    async def reset_prefix_cache(self, request: web.Request) -> web.Response:
        done = self._site.replica.engine.reset_prefix_cache()
        self._site.replica.woken()
        return answer({"success": done})

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


def _level(text: str) -> int:
    if text not in ("0", "1", "2"):
        raise Malformed("level must be 0, 1 or 2", "query.level")
    return int(text)


def _text_tokens(body: dict[str, Any]) -> list[int]:
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise malformed("prompt must be a string", "prompt")
    return tokenizer.encode(prompt)
