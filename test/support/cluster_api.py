"""The Kubernetes API as plain JSON, for tests and the node agent.

async with Api.open(kubeconfig) as api:
    await api.apply(document)
    pods = await api.list("Pod", "default", labels={"app": "sim"})
    await api.patch("Deployment", "sim", "default", {"spec": {"replicas": 8}})
"""

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

Object = dict[str, Any]
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
MANAGER = "epp-e2e"


class ApiError(Exception):
    """An answer of the API server that is no success."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Api:
    """One user's way into one API server. Kinds are found by discovery and remembered."""

    def __init__(self, http: aiohttp.ClientSession, context: ssl.SSLContext | None) -> None:
        self.http = http
        self._tls: dict[str, Any] = {} if context is None else {"ssl": context}
        self._paths: dict[str, tuple[str, str, bool]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, kubeconfig: Path) -> AsyncIterator[Self]:
        """The user of a kubeconfig's current context: client certificate or token."""
        server, context, headers = credentials(kubeconfig)
        timeout = aiohttp.ClientTimeout(total=60)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            base_url=server, headers=headers, timeout=timeout, connector=connector
        ) as http:
            yield cls(http, context)

    async def request(self, method: str, path: str, **options: Any) -> Any:
        """The decoded answer. Raises `ApiError`."""
        async with self.http.request(method, path, **self._tls, **options) as answer:
            return decoded(answer, await answer.read())

    async def get(self, kind: str, name: str, namespace: str = "") -> Object:
        return await self.request("GET", await self.path(kind, namespace, name))

    async def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """The object, or None where there is none."""
        try:
            return await self.get(kind, name, namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self,
        kind: str,
        namespace: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        page = await self.page(kind, namespace, labels=labels, fields=fields)
        return page["items"]

    async def page(
        self,
        kind: str,
        namespace: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> Object:
        """A whole list with its metadata; an item does not repeat its kind."""
        params = {"labelSelector": pairs(labels), "fieldSelector": pairs(fields)}
        wanted = {name: value for name, value in params.items() if value}
        return await self.request("GET", await self.path(kind, namespace), params=wanted)

    async def create(self, document: Object, **params: str) -> Object:
        kind, namespace, _ = address(document)
        return await self.request(
            "POST", await self.path(kind, namespace), json=document, params=strict(params)
        )

    async def apply(self, document: Object, **params: str) -> Object:
        """Server-side apply with strict field validation; `dryRun="All"` changes nothing."""
        path = await self.path(*address(document))
        options = {"fieldManager": MANAGER, "force": "true", **strict(params)}
        headers = {"Content-Type": APPLY}
        body = json.dumps(document)
        return await self.request("PATCH", path, data=body, headers=headers, params=options)

    async def patch(
        self,
        kind: str,
        name: str,
        namespace: str,
        change: Any,
        *,
        of: str = "",
        form: str = MERGE,
    ) -> Object:
        """Change some fields; `of` names a subresource such as `status` or `scale`."""
        path = await self.path(kind, namespace, name) + (f"/{of}" if of else "")
        headers = {"Content-Type": form}
        return await self.request("PATCH", path, data=json.dumps(change), headers=headers)

    async def delete(
        self, kind: str, name: str, namespace: str = "", *, grace: int | None = None
    ) -> None:
        """Delete it, dependents in the background; no error where there is none."""
        options: Object = {"propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self.request("DELETE", await self.path(kind, namespace, name), json=options)
        except ApiError as error:
            if error.status != 404:
                raise

    async def watch(self, kind: str, version: str, **params: str) -> AsyncIterator[Object]:
        """Events after a resource version until the server ends the stream."""
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", **params}
        path = await self.path(kind)
        forever = aiohttp.ClientTimeout(total=None)
        async with self.http.get(path, params=query, timeout=forever, **self._tls) as answer:
            if answer.status != 200:
                decoded(answer, await answer.read())
            async for line in lines(answer.content):
                yield json.loads(line)

    async def execute(
        self, path: str, query: Sequence[tuple[str, str]], seconds: float = 120
    ) -> tuple[int, str, str]:
        """Run a command in a container: exit code, standard output, standard error."""
        said: dict[int, bytearray] = {channel: bytearray() for channel in (1, 2, 3)}
        protocols = ("v4.channel.k8s.io",)
        async with (
            asyncio.timeout(seconds),
            self.http.ws_connect(path, params=query, protocols=protocols, **self._tls) as socket,
        ):
            async for message in socket:
                if isinstance(message.data, bytes) and message.data:
                    said[message.data[0]] += message.data[1:]
        code = exit_code(json.loads(said[3] or b"{}"))
        return code, said[1].decode(errors="replace"), said[2].decode(errors="replace")

    async def path(self, kind: str, namespace: str = "", name: str = "") -> str:
        """`kind` is `Pod`, or `group/version/Kind` where the kind is not of core or apps."""
        prefix, plural, namespaced = await self._resource(kind)
        room = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{prefix}{room}/{plural}" + (f"/{name}" if name else "")

    async def _resource(self, kind: str) -> tuple[str, str, bool]:
        if kind not in self._paths:
            await self._discover(kind)
        return self._paths[kind]

    async def _discover(self, kind: str) -> None:
        version, _, bare = WELL_KNOWN.get(kind, kind).rpartition("/")
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        for each in (await self.request("GET", prefix))["resources"]:
            if each["kind"] == bare and "/" not in each["name"]:
                self._paths[kind] = (prefix, each["name"], each["namespaced"])
                return
        raise ApiError(404, "NotFound", f"the server has no kind {kind}")


WELL_KNOWN = {
    "Pod": "v1/Pod",
    "Node": "v1/Node",
    "Service": "v1/Service",
    "ConfigMap": "v1/ConfigMap",
    "Secret": "v1/Secret",
    "Event": "v1/Event",
    "Namespace": "v1/Namespace",
    "ServiceAccount": "v1/ServiceAccount",
    "Deployment": "apps/v1/Deployment",
    "ReplicaSet": "apps/v1/ReplicaSet",
    "StatefulSet": "apps/v1/StatefulSet",
    "Lease": "coordination.k8s.io/v1/Lease",
    "EndpointSlice": "discovery.k8s.io/v1/EndpointSlice",
    "Role": "rbac.authorization.k8s.io/v1/Role",
    "RoleBinding": "rbac.authorization.k8s.io/v1/RoleBinding",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1/CustomResourceDefinition",
    "InferencePool": "inference.networking.k8s.io/v1/InferencePool",
    "InferenceObjective": "llm-d.ai/v1alpha2/InferenceObjective",
    "InferenceModelRewrite": "llm-d.ai/v1alpha2/InferenceModelRewrite",
}


def address(document: Object) -> tuple[str, str, str]:
    """Kind with its version, namespace, name."""
    metadata = document["metadata"]
    kind = f"{document['apiVersion']}/{document['kind']}"
    return kind, metadata.get("namespace", ""), metadata.get("name", "")


def strict(params: Mapping[str, str]) -> dict[str, str]:
    return {"fieldValidation": "Strict", **params}


def exit_code(status: Object) -> int:
    """Of a command, from the status that an exec ends with; -1 where it did not end."""
    if status.get("status") == "Success":
        return 0
    causes = status.get("details", {}).get("causes", [])
    return next((int(c["message"]) for c in causes if c["reason"] == "ExitCode"), -1)


def pairs(wanted: Mapping[str, str] | None) -> str:
    return ",".join(f"{name}={value}" for name, value in (wanted or {}).items())


def decoded(answer: aiohttp.ClientResponse, body: bytes) -> Any:
    if "json" not in answer.headers.get("Content-Type", ""):
        text = body.decode(errors="replace")
        if answer.status >= 400:
            raise ApiError(answer.status, answer.reason or "", text[:2000])
        return text
    document = json.loads(body)
    if answer.status >= 400:
        raise ApiError(answer.status, document.get("reason", ""), document.get("message", ""))
    return document


async def lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines of any length."""
    held = bytearray()
    async for chunk in content.iter_any():
        held += chunk
        *whole, rest = held.split(b"\n")
        for line in whole:
            if line:
                yield bytes(line)
        held = bytearray(rest)


def credentials(kubeconfig: Path) -> tuple[str, ssl.SSLContext | None, dict[str, str]]:
    """Server, TLS context and headers of the current context."""
    config = yaml.safe_load(kubeconfig.read_text())
    contexts = {each["name"]: each["context"] for each in config["contexts"]}
    chosen = contexts[config["current-context"]]
    cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == chosen["cluster"])
    user = next(u["user"] for u in config["users"] if u["name"] == chosen["user"])
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    if not cluster["server"].startswith("https:"):
        return cluster["server"], None, headers
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        context = ssl.create_default_context(
            cafile=held_file(cluster, "certificate-authority", folder)
        )
        certificate = held_file(user, "client-certificate", folder)
        if certificate:
            context.load_cert_chain(certificate, held_file(user, "client-key", folder))
    return cluster["server"], context, headers


def held_file(section: Mapping[str, str], name: str, folder: Path) -> str | None:
    """A file that a kubeconfig names or holds."""
    if f"{name}-data" in section:
        path = folder / name
        path.write_bytes(base64.b64decode(section[f"{name}-data"]))
        return str(path)
    return section.get(name)


async def until(what: Callable[[], Any], seconds: float, why: str, *, pause: float = 0.1) -> Any:
    """The first true result of the coroutine function `what`; fails after so many seconds."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        result = await what()
        if result:
            return result
        assert asyncio.get_running_loop().time() < end, f"after {seconds:g} s: {why}"
        await asyncio.sleep(pause)
