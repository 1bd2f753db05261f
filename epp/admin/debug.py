"""The debug pages: state as JSON, read through callables and never changed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec
from aiohttp import web

from epp.admin import pages
from epp.admin.guard import refusal

MOST_RECORDS: Final = 1000
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def no_decisions(request_id: str) -> pages.DecisionsPage:
    return pages.DecisionsPage()


def last_none(count: int) -> pages.DecisionsPage:
    return pages.DecisionsPage()


@dataclass(slots=True, frozen=True, kw_only=True)
class DebugSources:
    """Where the pages get what they show; called on the event loop for each page."""

    endpoints: Callable[[], pages.EndpointsPage] = lambda: pages.EndpointsPage("")
    requests: Callable[[], pages.RequestsPage] = pages.RequestsPage
    decisions: Callable[[str], pages.DecisionsPage] = no_decisions
    """By our id or the client's; an empty page if there is none."""
    last_decisions: Callable[[int], pages.DecisionsPage] = last_none
    prefix: Callable[[str], pages.PrefixPage | None] = lambda endpoint: None
    """By endpoint name; None for an endpoint nobody knows."""
    config: Callable[[], pages.ConfigPage] = lambda: pages.ConfigPage("default")
    kv_events: Callable[[], pages.KvEventsPage] = pages.KvEventsPage
    allowed_hosts: frozenset[str] = field(default_factory=frozenset)
    """Host names the listener answers to besides addresses and localhost."""


class DebugPages:
    """Handlers of the debug listener."""

    def __init__(self, sources: DebugSources) -> None:
        self._sources = sources

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guarded])
        app.router.add_get("/debug/endpoints", self.endpoints)
        app.router.add_get("/debug/requests", self.requests)
        app.router.add_get("/debug/decisions", self.decisions)
        app.router.add_get("/debug/prefix", self.prefix)
        app.router.add_get("/debug/config", self.config)
        app.router.add_get("/debug/kvevents", self.kv_events)
        app.router.add_get("/debug/tasks", self.tasks)
        app.router.add_get("/debug/schema/{page}", self.schema)
        app.router.add_get("/debug", self.index)
        return app

    async def index(self, request: web.Request) -> web.Response:
        return answer({"pages": [f"/debug/{page}" for page in pages.PAGES]})

    async def endpoints(self, request: web.Request) -> web.Response:
        return answer(self._sources.endpoints())

    async def requests(self, request: web.Request) -> web.Response:
        return answer(self._sources.requests())

    async def decisions(self, request: web.Request) -> web.Response:
        wanted = request.query.get("id")
        if wanted is None:
            return self._last(request.query.get("last", "20"))
        found = self._sources.decisions(wanted)
        if not found.decisions:
            return problem(404, "no decision with this id is remembered; the oldest are forgotten")
        return answer(found)

    def _last(self, count: str) -> web.Response:
        if not (count.isascii() and count.isdigit() and 1 <= int(count[:9]) <= MOST_RECORDS):
            return problem(400, f"last: give a number from 1 to {MOST_RECORDS}")
        return answer(self._sources.last_decisions(int(count)))

    async def prefix(self, request: web.Request) -> web.Response:
        endpoint = request.query.get("endpoint", "")
        if not endpoint:
            return problem(400, "endpoint: give the name of an endpoint of /debug/endpoints")
        found = self._sources.prefix(endpoint)
        if found is None:
            return problem(404, "endpoint: no endpoint of the pool has this name")
        return answer(found)

    async def config(self, request: web.Request) -> web.Response:
        return answer(self._sources.config())

    async def kv_events(self, request: web.Request) -> web.Response:
        return answer(self._sources.kv_events())

    async def tasks(self, request: web.Request) -> web.Response:
        rows = sorted((row(task) for task in asyncio.all_tasks()), key=lambda task: task.name)
        return answer(pages.TasksPage(tuple(rows)))

    async def schema(self, request: web.Request) -> web.Response:
        page = request.match_info["page"].removesuffix(".json")
        if page not in pages.PAGES:
            return problem(404, f"schema: there is one for each of {', '.join(pages.PAGES)}")
        return answer(pages.schema(page))

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        why_not = refusal(request.headers, self._sources.allowed_hosts)
        if why_not is not None:
            return problem(403, why_not)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return problem(error.status, error.reason)


def row(task: "asyncio.Task[object]") -> pages.TaskRow:
    """A task and the line it waits at."""
    stack = task.get_stack(limit=1)
    where = f"{stack[0].f_code.co_filename}:{stack[0].f_lineno}" if stack else ""
    coroutine = task.get_coro()
    return pages.TaskRow(task.get_name(), getattr(coroutine, "__qualname__", ""), where)


def answer(page: object, status: int = 200) -> web.Response:
    """A page as JSON."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    body = msgspec.json.encode(page)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def problem(status: int, message: str) -> web.Response:
    """An error as JSON."""
    return answer(pages.Problem(message), status)
