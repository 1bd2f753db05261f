"""The doors that vLLM has not: state, faults, metrics with faults, KV read by a decoder."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vllm_sim.metrics.page import Gauges
from vllm_sim.server import fields
from vllm_sim.server.faults import Faults
from vllm_sim.server.plain import answer

if TYPE_CHECKING:
    from vllm_sim.server.site import Site

CONTENT_TYPE = "text/plain; version=1.0.0"


class Lab:
    """Handlers of /sim/* and /metrics."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def state(self, request: web.Request) -> web.Response:
        return answer(self.snapshot())

    def snapshot(self) -> dict[str, Any]:
        """Everything a test wants to know, as JSON values."""
        site, replica = self._site, self._site.replica
        engine, stats = replica.engine, replica.engine.stats
        return {
            "pod": site.options.pod,
            "port": site.port,
            "model": site.options.names[0],
            "engine_id": replica.engine_id,
            "data_parallel_rank": replica.rank,
            "now": site.clock.now(),
            "ready": replica.ready,
            "draining": site.draining,
            "sleeping": engine.power.sleeping,
            "running": engine.num_running,
            "waiting": engine.num_waiting,
            "deferred": engine.num_deferred,
            "open": replica.open_requests,
            "kv_usage": engine.kv_usage,
            "kv": {
                "blocks": engine.pool.capacity,
                "free": engine.pool.free,
                "cached": engine.pool.cached,
                "pinned": len(engine.transfers.pins),
                "expired": stats.leases_expired,
            },
            "prefix_queries": stats.prefix_queries,
            "prefix_hits": stats.prefix_hits,
            "prompt_tokens": stats.prompt_tokens,
            "generation_tokens": stats.generation_tokens,
            "preemptions": stats.preemptions,
            "steps": stats.steps,
            "loras": {
                "loaded": list(site.models.loras),
                "running": sorted(engine.loras.running),
                "waiting": engine.waiting.loras(),
            },
            "requests": {
                "added": stats.added,
                "finished": stats.finished,
                "aborted": stats.aborted,
                "in_flight": site.counts.in_flight,
                "paths": site.counts.paths,
                "statuses": {str(code): count for code, count in site.counts.statuses.items()},
                "disconnects": site.counts.disconnects,
            },
            "events": {
                "next_seq": replica.publisher.next_seq if replica.publisher else None,
            },
            "faults": site.faults.as_dict(),
            "active_faults": site.faults.active,
        }

    async def set_faults(self, request: web.Request) -> web.Response:
        """Merges the body into the faults; `clear` starts anew, `restart` restarts the engine."""
        body = await fields.read_json(request)
        base = Faults() if fields.flag(body, "clear") else self._site.faults
        restart = fields.flag(body, "restart")
        rest = {name: value for name, value in body.items() if name not in ("clear", "restart")}
        self._apply(base.merged(rest))
        if restart:
            self._site.replica.restart()
            self._apply(self._site.faults)
        return answer(self._site.faults.as_dict())

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._apply(Faults())
        return answer(self._site.faults.as_dict())

    async def get_faults(self, request: web.Request) -> web.Response:
        return answer(self._site.faults.as_dict())

    def _apply(self, faults: Faults) -> None:
        site = self._site
        if faults.metrics == "stale" and site.faults.metrics != "stale":
            site.frozen_page = site.replica.page()
        site.faults = faults
        site.replica.engine.slowdown = faults.slow
        site.replica.stalled = faults.stall
        site.replica.skew_s = faults.clock_skew_s
        publisher = site.replica.publisher
        if publisher is not None:
            publisher.faults.loss = faults.kv_event_loss
            publisher.faults.duplicate = faults.kv_event_duplicate
            publisher.faults.reorder = faults.kv_event_reorder
        site.replica.woken()

    async def kv_read(self, request: web.Request) -> web.Response:
        """A decode replica has read the KV of a held prefill."""
        body = await fields.read_json(request)
        released = self._site.replica.engine.release_pin(str(body.get("request_id")))
        self._site.replica.woken()
        return answer({"released": released})

    async def metrics(self, request: web.Request) -> web.Response:
        """The page, as the metrics fault wants it."""
        mode = self._site.faults.metrics
        if mode == "hang":
            await asyncio.Event().wait()
        if mode == "error":
            return web.Response(status=500, text="Internal Server Error")
        return web.Response(text=self._page(mode), headers={"Content-Type": CONTENT_TYPE})

    def _page(self, mode: str) -> str:
        site = self._site
        if mode == "empty":
            return ""
        if mode == "stale":
            return site.frozen_page
        if mode == "broken":
            page = site.replica.page()
            return (
                page[: len(page) // 3] + '\nvllm:num_requests_waiting{model_name="x} not-a-number'
            )
        if mode == "wrong":
            faults = site.faults
            return site.replica.page(
                Gauges(faults.metrics_running, faults.metrics_waiting, 0.0, faults.metrics_kv_usage)
            )
        return site.replica.page()
