"""Around every handler: counts, faults, errors as JSON, the headers that routers look at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
from aiohttp import web

from vllm_sim.server.errors import ApiError, bad_request
from vllm_sim.server.faults import GO_FAILURES, failure_named
from vllm_sim.server.plain import answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vllm_sim.server.site import Site

Handler = "Callable[[web.Request], Awaitable[web.StreamResponse]]"
UNTOUCHED = ("/sim/", "/admin/", "/fake_metrics", "/metrics", "/health", "/ping")
ANTHROPIC = "/v1/messages"


class Around:
    """The middleware of one port, from the outside in: count, translate errors, break, answer."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def middleware(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        @web.middleware
        async def around(
            request: web.Request,
            handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        ) -> web.StreamResponse:
            return await self._handle(request, handler)

        return around

    async def _handle(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        counts = self._site.counts
        served = not request.path.startswith(UNTOUCHED)
        if served:
            counts.note(request.path)
            counts.in_flight += 1
        try:
            response = await self._translated(request, handler, served)
        except asyncio.CancelledError:
            counts.disconnects += served
            raise
        finally:
            counts.in_flight -= served
        if served:
            counts.answered(response.status)
        return response

    async def _translated(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        served: bool,
    ) -> web.StreamResponse:
        try:
            if served:
                await self._break(request)
            return await handler(request)
        except ApiError as error:
            return self._refusal(request, error)
        except web.HTTPRequestEntityTooLarge:
            return self._refusal(request, ApiError(413, "The request body is too large."))
        except web.HTTPException as error:
            return answer({"detail": error.reason}, error.status)

    async def _break(self, request: web.Request) -> None:
        site = self._site
        faults, dice = site.faults, site.dice
        if dice.hit(faults.refuse_rate) and request.transport is not None:
            request.transport.abort()
            await asyncio.Event().wait()
        if dice.hit(faults.hang_rate):
            await asyncio.Event().wait()
        if dice.hit(faults.error_rate):
            raise ApiError(faults.error_status, "Injected fault")
        self._wanted_error(request)
        failure = dice.failure(site.options.failure_rate, site.options.failure_types)
        if failure is not None:
            raise failure

    def _wanted_error(self, request: web.Request) -> None:
        """X-Return-Error forces a status, or a named failure type."""
        wanted = request.headers.get("X-Return-Error")
        if wanted is None:
            return
        if wanted in GO_FAILURES:
            raise failure_named(wanted)
        if not wanted.isdigit() or not 400 <= int(wanted) <= 599:
            raise bad_request("X-Return-Error must be a status from 400 to 599 or a failure type")
        raise ApiError(int(wanted), "Error forced by X-Return-Error")

    def _refusal(self, request: web.Request, error: ApiError) -> web.Response:
        body = error.anthropic() if request.path.startswith(ANTHROPIC) else error.openai()
        if not self._site.replica.version.within((0, 10)) and "type" not in body:
            body = {"object": "error", **body["error"]}
        return web.Response(
            body=msgspec.json.encode(body), status=error.status, content_type="application/json"
        )

    async def headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set just before any answer's headers leave."""
        site, headers = self._site, response.headers
        headers["x-inference-pod"] = site.options.pod
        headers["x-inference-namespace"] = site.options.namespace
        headers["x-inference-port"] = str(site.port)
        if site.options.request_id_headers:
            headers["X-Request-Id"] = request.headers.get("X-Request-Id") or uuid4().hex
        form = request.headers.get("endpoint-load-metrics-format", "").upper()
        if form in ("TEXT", "JSON"):
            headers["endpoint-load-metrics"] = self._orca(form)

    def _orca(self, form: str) -> str:
        engine = self._site.replica.engine
        load = {
            "kv_cache_usage_perc": round(engine.kv_usage, 6),
            "num_requests_waiting": engine.num_waiting,
        }
        if form == "JSON":
            return "JSON " + msgspec.json.encode({"named_metrics": load}).decode()
        return "TEXT " + ", ".join(f"named_metrics.{name}={value}" for name, value in load.items())
