"""Names of services for pods on this machine, as a cluster's name server answers them.

A service is its own address, a headless one those of its ready endpoints. A records only.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from typing import cast

ZONE = ("svc", "cluster", "local")
TTL_SECONDS = 1
TYPE_A = 1
NAME_ERROR = 3
QUERY = struct.Struct("!HHHHHH")

# What a service's name and namespace mean; None where there is no such service.
Lookup = Callable[[str, str], Sequence[str] | None]


class NameServer(asyncio.DatagramProtocol):
    """Answers queries from what `lookup` says at that moment."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own selector transport does not derive from DatagramTransport.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        self._transport.sendto(reply(data, self._lookup), addr)


async def serve_names(lookup: Lookup, address: str) -> asyncio.DatagramTransport:
    """Serve on UDP port 53 of an address until the transport is closed."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: NameServer(lookup), local_addr=(address, 53)
    )
    return transport


def reply(query: bytes, lookup: Lookup) -> bytes:
    """The answer to one query; a name outside the cluster does not exist."""
    number, flags, *_ = QUERY.unpack_from(query)
    name, end = question(query)
    kind = int.from_bytes(query[end : end + 2])
    asked = query[QUERY.size : end + 4]
    found = addresses(name, lookup)
    records = b"" if found is None or kind != TYPE_A else b"".join(map(record, found))
    count = len(records) // 16
    code = NAME_ERROR if found is None else 0
    # Answer, authoritative, recursion as it was wished and had.
    head = QUERY.pack(number, 0x8480 | (flags & 0x0100) | code, 1, count, 0, 0)
    return head + asked + records


def question(query: bytes) -> tuple[list[str], int]:
    """The labels asked for, and where the type begins."""
    labels, at = [], QUERY.size
    while query[at]:
        length = query[at]
        labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    return labels, at + 1


def addresses(labels: Sequence[str], lookup: Lookup) -> Sequence[str] | None:
    if len(labels) != 5 or tuple(labels[2:]) != ZONE:
        return None
    return lookup(labels[0], labels[1])


def record(address: str) -> bytes:
    pointer_to_question = 0xC000 | QUERY.size
    return struct.pack(
        "!HHHIH4s", pointer_to_question, TYPE_A, 1, TTL_SECONDS, 4, socket.inet_aton(address)
    )
