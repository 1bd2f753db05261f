"""The API server through the official client: its configuration, credentials and TLS.

Only raw bytes come from it; the models of the library are never built. Importing this module costs
half a second and 40 MiB.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from structlog.typing import FilteringBoundLogger

from epp.errors import ConfigError
from epp.kube.api import JSON, Answer, Unreachable

CONNECT_SECONDS: Final = 5.0
LONGEST_LINE: Final = 8 << 20
LARGEST_ANSWER: Final = 64 << 20
USER_AGENT: Final = "epp"
RENEW_EVERY: Final = 5.0
IN_CLUSTER: Final = "KUBERNETES_SERVICE_HOST"


_read_in_cluster: Any = load_incluster_config
_read_kubeconfig: Any = load_kube_config
FAULTS: Final = (aiohttp.ClientError, OSError, ConfigException)


async def connect(
    log: FilteringBoundLogger, environ: Mapping[str, str] = os.environ
) -> "ClusterApi":
    """The API server that `KUBECONFIG` names, else the pod's own, else ~/.kube/config's.

    Raises ConfigError when none of them can be read.
    """
    api = ClusterApi(environ, log)
    await api.load()
    return api


class ClusterApi:
    """An `Api` on aiohttp as the Kubernetes client sets it up."""

    def __init__(self, environ: Mapping[str, str], log: FilteringBoundLogger) -> None:
        self._environ = environ
        self._log = log
        self._config: Any = None
        self._rest: Any = None
        self._trust: object = None
        self._renewed = 0.0
        self._renewing = asyncio.Lock()

    async def load(self) -> None:
        """Read the configuration. Raises ConfigError."""
        config = Configuration()
        try:
            await self._read(config)
        except (ConfigException, OSError, ValueError) as error:
            raise ConfigError([f"no access to a cluster: {error}; set KUBECONFIG"]) from error
        self._config = config
        trust = trust_of(config)
        if trust != self._trust:
            old, self._rest = self._rest, RESTClientObject(config)
            self._trust = trust
            if old is not None:
                await old.close()

    async def _read(self, config: Any) -> None:
        if file := kubeconfig_of(self._environ):
            await _read_kubeconfig(file, client_configuration=config, persist_config=False)
        else:
            _read_in_cluster(client_configuration=config)

    async def renew_credentials(self) -> None:
        """Read them anew, unless somebody has just done so; what cannot be read stays as it is."""
        async with self._renewing:
            now = asyncio.get_running_loop().time()
            if now - self._renewed < RENEW_EVERY:
                return
            self._renewed = now
            try:
                await self.load()
            except ConfigError as error:
                self._log.error("credentials cannot be renewed", why=str(error))

    async def close(self) -> None:
        if self._rest is not None:
            await self._rest.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        timeout: float = 10.0,
    ) -> Answer:
        """One request and its whole answer."""
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
        try:
            async with asyncio.timeout(timeout):
                response = await self._send(method, path, query, body, content_type, limits)
                async with response:
                    return await answer_of(response)
        except FAULTS as error:
            raise Unreachable(f"{method} {path}: {reason_of(error)}") from error

    @asynccontextmanager
    async def watch(
        self, path: str, query: Mapping[str, str], *, silence: float
    ) -> AsyncIterator["ClusterStream"]:
        """A watch; closing the block closes its connection."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        try:
            response = await self._send("GET", path, query, None, JSON, limits)
        except FAULTS as error:
            raise Unreachable(f"watch {path}: {reason_of(error)}") from error
        try:
            yield await self._stream(response, path)
        finally:
            response.close()

    async def _stream(self, response: aiohttp.ClientResponse, path: str) -> "ClusterStream":
        if response.status == 200:
            return ClusterStream(Answer(200), response, path)
        try:
            return ClusterStream(await answer_of(response), response, path)
        except FAULTS as error:
            raise Unreachable(f"watch {path}: {reason_of(error)}") from error

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        url = f"{self._config.host}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": USER_AGENT}
        for setting in (await self._config.auth_settings()).values():
            headers[setting["key"]] = setting["value"].strip()
        sent = await self._rest.request(
            method, url, headers=headers, body=body, _request_timeout=limits
        )
        response: aiohttp.ClientResponse = sent.response
        return response


class ClusterStream:
    """The answer to a watch."""

    def __init__(self, answer: Answer, response: aiohttp.ClientResponse, path: str) -> None:
        self.answer = answer
        self._response = response
        self._path = path
        self._rest = b""

    async def read(self) -> list[bytes] | None:
        """Whole lines as they come, None at the end or after silence. Raises Unreachable."""
        try:
            piece = await self._response.content.readany()
        except TimeoutError:
            return None
        except FAULTS as error:
            raise Unreachable(f"watch {self._path}: {reason_of(error)}") from error
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            raise Unreachable(f"watch {self._path}: a line over {LONGEST_LINE} bytes")
        return lines if piece else None


async def answer_of(response: aiohttp.ClientResponse) -> Answer:
    """The whole answer. Raises Unreachable when it is too large."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > LARGEST_ANSWER:
            raise Unreachable(f"{response.url.path}: an answer over {LARGEST_ANSWER} bytes")
        pieces.append(piece)
    return Answer(
        response.status, b"".join(pieces), retry_after(response.headers.get("Retry-After", ""))
    )


def retry_after(text: str) -> float | None:
    """Seconds, where the header names some; a date, or anything else, is none."""
    return float(text) if text.isascii() and text.isdigit() else None


def kubeconfig_of(environ: Mapping[str, str]) -> str:
    """The kubeconfig to read; empty inside a cluster. Raises ConfigException for one not there."""
    file = environ.get("KUBECONFIG", "")
    if not file and environ.get(IN_CLUSTER):
        return ""
    file = file or str(Path.home() / ".kube" / "config")
    if not any(Path(part).exists() for part in file.split(os.pathsep)):
        raise ConfigException(f"{file}: no such file")
    return file


def trust_of(config: Any) -> object:
    """What a connection depends on, files by their content: only a change needs a new session."""
    files = tuple(
        Path(name).read_bytes() if name else b""
        for name in (config.ssl_ca_cert, config.cert_file, config.key_file)
    )
    return (config.host, config.verify_ssl, config.tls_server_name, config.proxy, files)


def reason_of(error: Exception) -> str:
    """An exception in words, also where it has none of its own."""
    return str(error) or type(error).__name__
