"""A small API server on the loopback: lists in pages, watches, leases, patches, reviews, faults.

Only for what a real one would be too slow for. It keeps objects as JSON, gives every write the next
resourceVersion and refuses a write whose version is not the present one.

async with kube_api() as server:
    server.put(pod("a", "10.0.0.1"))
    env = {"KUBECONFIG": server.kubeconfig(tmp_path)}
"""

import asyncio
import copy
import json
from collections import Counter
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

from aiohttp import web
from support.kube_objects import CORE_KINDS, KINDS, Place, place_of

TOKEN = "first-token"


class KubeApi:
    """One API server; every fault is a field or a method."""

    def __init__(self):
        self.version = 100
        self.objects = {}
        self.history = []
        self.oldest = 0
        self.installed = {*CORE_KINDS, *KINDS}
        self.forbidden = set()
        """`(verb, plural)` or `(verb, plural/subresource)` that the Role lacks."""
        self.tokens = {TOKEN}
        self.users = {}
        """Tokens that a TokenReview knows, to the user's name."""
        self.readers = set()
        """Users that may read /metrics."""
        self.failing = 0
        """So many further requests are answered with 500."""
        self.silent = False
        """Watches stay open and bring nothing."""
        self.cut_off = False
        """Every connection is broken off."""
        self.requests = Counter()
        self.asked = []
        self.port = 0
        self._changed = asyncio.Event()
        self._watches = []
        self._lists = {}
        self._runner = None

    # -- what a test does -------------------------------------------------------------------------

    def put(self, item):
        """Create or replace an object, whatever its version."""
        where = place_of(item)
        kept = self.objects.get(where)
        item = copy.deepcopy(item)
        meta = item["metadata"]
        self.version += 1
        meta.setdefault("uid", kept["metadata"]["uid"] if kept else f"uid-{self.version}")
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        meta["resourceVersion"] = str(self.version)
        self.objects[where] = item
        self._note("MODIFIED" if kept else "ADDED", where, item, kept)
        return item

    def remove(self, plural, name, namespace="default", group=None):
        where = next(
            place
            for place in self.objects
            if (place.plural, place.name, place.namespace) == (plural, name, namespace)
            and group in (None, place.group)
        )
        kept = copy.deepcopy(self.objects.pop(where))
        self.version += 1
        kept["metadata"]["resourceVersion"] = str(self.version)
        self._note("DELETED", where, kept, kept)

    def get(self, plural, name, namespace="default"):
        for place, item in self.objects.items():
            if (place.plural, place.name, place.namespace) == (plural, name, namespace):
                return item
        return None

    def all(self, plural):
        return [item for place, item in self.objects.items() if place.plural == plural]

    def compact(self):
        """Forget history: every watch that is not up to date has expired, lists under way too."""
        self.history = []
        self.oldest = self.version
        self._lists = {}

    def cut_watches(self):
        """End every open watch in the middle."""
        for request in tuple(self._watches):
            if request.transport is not None:
                request.transport.abort()

    async def stop(self):
        """Nobody listens any more."""
        self.cut_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def start(self):
        """Listen, on the same port as before if there was one."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def kubeconfig(self, folder, token=TOKEN):
        """Write a kubeconfig for this server; returns its path. The token is in a file beside."""
        (folder / "token").write_text(token)
        user = {"tokenFile": str(folder / "token")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "me", "user": user}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return str(path)

    # -- what a client sees -----------------------------------------------------------------------

    def _note(self, kind, where, item, before):
        self.history.append((self.version, kind, where, item, before))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _serve(self, request):
        where, sub = Place.read(request.path)
        query = dict(parse_qsl(request.query_string))
        verb = verb_of(request.method, where.name, query)
        resource = where.plural + (f"/{sub}" if sub else "")
        self.requests[verb, resource] += 1
        self.asked.append((verb, resource, where.name))
        if self.cut_off:
            request.transport.abort()
            return web.Response()
        if self.failing:
            self.failing -= 1
            return refusal(500, "InternalError", "told to fail")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return refusal(401, "Unauthorized", "Unauthorized")
        if (verb, resource) in self.forbidden:
            return refusal(403, "Forbidden", f"may not {verb} {resource}")
        if where.kind not in self.installed:
            return refusal(404, "NotFound", "the server could not find the requested resource")
        return await getattr(self, f"_{verb}")(request, where, sub, query)

    async def _get(self, request, where, sub, query):
        item = self.objects.get(where)
        return web.json_response(item) if item else refusal(404, "NotFound", "not found")

    async def _list(self, request, where, sub, query):
        limit = int(query.get("limit", 0)) or 10**9
        if token := query.get("continue"):
            version, start = map(int, token.split("-"))
            if version not in self._lists:
                return refusal(410, "Expired", "the continue parameter is too old")
        else:
            version, start = self.version, 0
            self._lists[version] = [
                item
                for place, item in sorted(self.objects.items())
                if place.within(where) and selected(item, query)
            ]
        items = self._lists[version]
        meta = {"resourceVersion": str(version)}
        if start + limit < len(items):
            meta["continue"] = f"{version}-{start + limit}"
        return web.json_response({"metadata": meta, "items": items[start : start + limit]})

    async def _watch(self, request, where, sub, query):
        version = int(query["resourceVersion"])
        if version < self.oldest:
            return refusal(410, "Expired", "too old resource version")
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        self._watches.append(request)
        try:
            async with asyncio.timeout(float(query["timeoutSeconds"])):
                await self._feed(answer, version, where, query)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._watches.remove(request)
        return answer

    async def _feed(self, answer, version, where, query):
        while True:
            changed = self._changed
            if version < self.oldest:
                await answer.write(frame("ERROR", status(410, "Expired", "too old")))
                return
            due = [] if self.silent else [one for one in self.history if one[0] > version]
            for at, kind, place, item, before in due:
                told = seen_as(kind, item, before, query) if place.within(where) else None
                if told:
                    await answer.write(frame(told, item))
                version = at
            await changed.wait()

    async def _create(self, request, where, sub, query):
        body = await request.json()
        if where.plural == "tokenreviews":
            return web.json_response(self._token_review(body), status=201)
        if where.plural == "subjectaccessreviews":
            return web.json_response(self._access_review(body), status=201)
        where = where._replace(name=body["metadata"]["name"])
        if where in self.objects:
            return refusal(409, "AlreadyExists", "already exists")
        body["metadata"].setdefault("namespace", where.namespace)
        return web.json_response(self.put(body), status=201)

    async def _update(self, request, where, sub, query):
        body = await request.json()
        kept = self.objects.get(where)
        if kept is None:
            return refusal(404, "NotFound", "not found")
        if body["metadata"].get("resourceVersion") != kept["metadata"]["resourceVersion"]:
            return refusal(409, "Conflict", "the object has been modified")
        return web.json_response(self.put(body))

    async def _patch(self, request, where, sub, query):
        body = await request.json()
        kept = self.objects.get(where)
        if kept is None:
            return refusal(404, "NotFound", "not found")
        version = body.get("metadata", {}).pop("resourceVersion", None)
        if version not in (None, kept["metadata"]["resourceVersion"]):
            return refusal(409, "Conflict", "the object has been modified")
        return web.json_response(self.put(merged(kept, body)))

    def _token_review(self, body):
        user = self.users.get(body["spec"]["token"])
        result = {"authenticated": user is not None}
        if user is not None:
            result["user"] = {"username": user, "groups": ["system:authenticated"]}
        return {**body, "status": result}

    def _access_review(self, body):
        spec = body["spec"]
        asked = spec["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
        return {**body, "status": {"allowed": asked and spec["user"] in self.readers}}


def verb_of(method, name, query):
    if method == "GET":
        return "watch" if query.get("watch") == "true" else "get" if name else "list"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}[method]


def selected(item, query):
    meta = item["metadata"]
    labels = meta.get("labels", {})
    wanted = [part.split("=") for part in query.get("labelSelector", "").split(",") if part]
    if any(labels.get(label) != value for label, value in wanted):
        return False
    field = query.get("fieldSelector", "")
    return not field or field == f"metadata.name={meta['name']}"


def seen_as(kind, item, before, query):
    """The event as a watch with a selector sees it, None where it does not."""
    is_in = kind != "DELETED" and selected(item, query)
    was_in = before is not None and selected(before, query)
    if is_in:
        return "MODIFIED" if was_in else "ADDED"
    return "DELETED" if was_in else None


def merged(kept, patch):
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(kept) if isinstance(kept, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def frame(kind, item):
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def status(code, reason, message):
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


def refusal(code, reason, message):
    return web.json_response(status(code, reason, message), status=code)


@asynccontextmanager
async def kube_api():
    server = KubeApi()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
