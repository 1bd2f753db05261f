"""The page of an endpoint: which address, which connection, how long it is kept."""

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Protocol, Self

from epp.domain.endpoint import Endpoint, join_address, split_address
from epp.scrape.http1 import PageConnection, Unanswered
from epp.scrape.settings import FetchSettings
from epp.scrape.stats import ScrapeError


class Fetch(Protocol):
    """Where pages come from."""

    async def __call__(self, endpoint: Endpoint) -> bytes:
        """The page of `endpoint`, as long as that takes. Raises `ScrapeError`."""
        ...

    def forget(self, endpoint: Endpoint) -> None:
        """`endpoint` has gone: let go of what is kept for it."""
        ...


class HttpFetch:
    """Fetches pages, keeping one connection for each endpoint; an async context manager.

    One fetch at a time for each endpoint; cancelling it closes the connection. A kept connection
    that the server closes at that moment is opened anew, once.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._tls = _tls(settings)
        self._kept: dict[str, tuple[str, PageConnection]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for _, connection in self._kept.values():
            connection.close()
        self._kept.clear()
        # Transports close in the next turn of the loop.
        await asyncio.sleep(0)

    def forget(self, endpoint: Endpoint) -> None:
        """Close what is kept for `endpoint`."""
        _, connection = self._kept.pop(endpoint.key, (None, None))
        if connection is not None:
            connection.close()

    async def __call__(self, endpoint: Endpoint) -> bytes:
        """The page of `endpoint`; the caller sets the deadline. Raises `ScrapeError`."""
        request = self._request(endpoint.metrics_address)
        address, kept = self._kept.get(endpoint.key, ("", None))
        if kept is not None and kept.is_open and address == endpoint.metrics_address:
            with contextlib.suppress(Unanswered):
                return await kept.fetch(request)
        self.forget(endpoint)
        connection = await self._connect(endpoint)
        self._kept[endpoint.key] = (endpoint.metrics_address, connection)
        return await connection.fetch(request)

    def _target(self, address: str) -> tuple[str, int]:
        host, port = split_address(address)
        return host, self._settings.port or port or 80

    async def _connect(self, endpoint: Endpoint) -> PageConnection:
        host, port = self._target(endpoint.metrics_address)
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: PageConnection(self._settings.max_bytes), host, port, ssl=self._tls
            )
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)
            serves_here = (host, port) == (endpoint.host, endpoint.port)
            reason = "refused" if refused and serves_here else "connect"
            raise ScrapeError(reason, f"no connection to {host} port {port}: {error}") from error
        return connection

    def _request(self, address: str) -> bytes:
        host = join_address(*self._target(address))
        return (
            f"GET {self._settings.path} HTTP/1.1\r\n"
            f"Host: {host}\r\n"
            "Accept: text/plain\r\n"
            "Accept-Encoding: identity\r\n\r\n"
        ).encode()


def _tls(settings: FetchSettings) -> ssl.SSLContext | None:
    if settings.scheme == "http":
        return None
    context = ssl.create_default_context(cafile=settings.ca_cert_path or None)
    if settings.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert_path:
        context.load_cert_chain(settings.client_cert_path, settings.client_key_path or None)
    return context
