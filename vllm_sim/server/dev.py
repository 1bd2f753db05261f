"""The doors of vLLM's dev mode: sleep, pause, reset, abort, what the server is set to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from vllm_sim.engine.power import TAGS
from vllm_sim.server import fields
from vllm_sim.server.errors import ApiError, Malformed, malformed
from vllm_sim.server.plain import answer

if TYPE_CHECKING:
    from vllm_sim.server.site import Site

SLEEP_MODES = ("abort", "wait", "keep")


class Dev:
    """Handlers that are there only where the doors are open."""

    def __init__(self, site: Site) -> None:
        self._site = site

    @property
    def sleep_routes(self) -> list[web.RouteDef]:
        """The doors that also need sleep mode."""
        return [
            web.post("/sleep", self.sleep),
            web.post("/wake_up", self.wake_up),
            web.get("/is_sleeping", self.is_sleeping),
            web.post("/release_kv_cache_memory", self.release_kv_cache_memory),
        ]

    @property
    def routes(self) -> list[web.RouteDef]:
        """The other doors of dev mode."""
        return [
            web.post("/reset_prefix_cache", self.reset_prefix_cache),
            web.post("/abort_requests", self.abort_requests),
            web.post("/pause", self.pause),
            web.post("/resume", self.resume),
            web.get("/is_paused", self.is_paused),
            web.get("/server_info", self.server_info),
        ]

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

    async def release_kv_cache_memory(self, request: web.Request) -> web.Response:
        """Gives the KV cache away during a pause; wake_up with the tag kv_cache takes it back."""
        replica = self._site.replica
        if not replica.engine.power.sleeping:
            raise ApiError(500, "release_kv_cache_memory requires a completed pause first.")
        replica.release_kv()
        return answer({"status": "kv_cache_released"})

    async def server_info(self, request: web.Request) -> web.Response:
        """The settings, as one text or with `config_format=json` as an object."""
        form = request.query.get("config_format", "text")
        if form not in ("text", "json"):
            raise Malformed("config_format must be text or json", "query.config_format")
        config, options = self._site.replica.engine.config, self._site.options
        shown = {
            "model": options.model,
            "served_model_name": options.names[0],
            "max_model_len": self._site.replica.model_len,
            "max_num_seqs": config.seqs,
            "max_num_batched_tokens": config.token_budget,
            "block_size": config.block_size,
            "num_gpu_blocks": config.blocks,
            "enable_prefix_caching": config.enable_prefix_caching,
            "scheduling_policy": config.policy,
            "data_parallel_size": options.data_parallel_size,
            "data_parallel_rank": self._site.replica.rank,
        }
        text = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        return answer({"vllm_config": shown if form == "json" else text})


def _level(text: str) -> int:
    if text not in ("0", "1", "2"):
        raise Malformed("level must be 0, 1 or 2", "query.level")
    return int(text)
