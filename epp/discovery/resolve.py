"""Host names become addresses: a gateway that sends to an original destination needs an IP."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from epp.discovery.parse import is_ip
from epp.domain.endpoint import Endpoint

HOST_NAME_LABEL: Final = "hostname"
"""Label that carries the name an endpoint's address was found by."""

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""All IP addresses of a host name. Raises OSError if there are none."""


async def resolve_by_system(name: str) -> Sequence[str]:
    """What the system's resolver says, without repeats, in its order."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[4][0]) for address in found))


class Names:
    """Resolves the names among endpoints and remembers what it found.

    An endpoint stays at its address while the name still has it, so that a resolver that rotates
    its answers moves nothing. A name that cannot be resolved keeps its last address; one that never
    could be leaves its endpoint out.
    """

    def __init__(self, resolve: Resolve, deadline: float, log: Any) -> None:
        self._resolve = resolve
        self._deadline = deadline
        self._log = log
        self._known: dict[str, str] = {}
        self._failing: set[str] = set()

    async def settle(self, endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """`endpoints` with IP addresses only; all names are asked for at once."""
        names = {endpoint.host for endpoint in endpoints if not is_ip(endpoint.host)}
        self._known = {name: self._known[name] for name in names & self._known.keys()}
        self._failing &= names
        await asyncio.gather(*(self._refresh(name) for name in sorted(names)))
        settled = (self._settled(endpoint) for endpoint in endpoints)
        return tuple(endpoint for endpoint in settled if endpoint is not None)

    async def _refresh(self, name: str) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                addresses = await self._resolve(name)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError.
            self._note_failure(name, error)
            return
        self._failing.discard(name)
        if addresses and self._known.get(name) not in addresses:
            self._known[name] = addresses[0]

    def _note_failure(self, name: str, error: Exception) -> None:
        if name not in self._failing:
            self._failing.add(name)
            kept = self._known.get(name)
            self._log.warning("host_name_unresolved", host=name, why=repr(error), kept=kept)

    def _settled(self, endpoint: Endpoint) -> Endpoint | None:
        if is_ip(endpoint.host):
            return endpoint
        address = self._known.get(endpoint.host)
        if address is None:
            return None
        labels = {HOST_NAME_LABEL: endpoint.host, **endpoint.labels}
        return msgspec.structs.replace(endpoint, host=address, labels=labels)
