"""Addresses of services on this machine: each connection goes to one ready endpoint, at random.

What kube-proxy does in the kernel is done here by copying bytes. A connection stays with its
endpoint until one side ends it, as there. A service without ready endpoints leads to those that are
on their way out and whose probes still pass; one without these too refuses connections.
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support.pod_sandbox import BRIDGE, shell

Object = dict[str, Any]
CHUNK = 65536
Target = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Front:
    """An address and port of a service."""

    address: str
    port: int


class ServiceProxy:
    """Keeps one listener for each port of each service that has ready endpoints."""

    def __init__(self) -> None:
        self._targets: Mapping[Front, Sequence[Target]] = {}
        self._listeners: dict[Front, socket.socket] = {}
        self._addresses: set[str] = set()
        self._pipes: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    async def set(self, targets: Mapping[Front, Sequence[Target]]) -> None:
        """From now on these fronts lead to these ready endpoints."""
        async with self._lock:
            self._targets = targets
            wanted = {front for front, ready in targets.items() if ready}
            for front in set(self._listeners) - wanted:
                self._stop(front)
            for front in wanted - set(self._listeners):
                await self._listen(front)

    async def close(self) -> None:
        for front in list(self._listeners):
            self._stop(front)
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _listen(self, front: Front) -> None:
        if front.address not in self._addresses:
            await shell(f"ip address replace {front.address}/32 dev {BRIDGE}")
            self._addresses.add(front.address)

        listener = socket.create_server((front.address, front.port), backlog=256)
        listener.setblocking(False)
        self._listeners[front] = listener
        asyncio.get_running_loop().add_reader(listener, self._accept, front, listener)

    def _stop(self, front: Front) -> None:
        listener = self._listeners.pop(front)
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()

    def _accept(self, front: Front, listener: socket.socket) -> None:
        """At once, so that no connection is under way when the listener goes."""
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            pipe = asyncio.create_task(self._serve(front, connection))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _serve(self, front: Front, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        ready = self._targets.get(front, ())
        try:
            far_reader, far_writer = await asyncio.open_connection(*random.choice(ready))
        except (OSError, IndexError, asyncio.CancelledError):
            writer.transport.abort()
            return
        try:
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        finally:
            for each in (writer, far_writer):
                each.transport.abort()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes until the end of the stream; a broken one breaks the other side too."""
    try:
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


def fronts(services: Sequence[Object], slices: Sequence[Object]) -> dict[Front, list[Target]]:
    """Where each port of each service with an address of its own leads."""
    found: dict[Front, list[Target]] = {}
    for service in services:
        address = service["spec"].get("clusterIP", "None")
        if address in ("", "None"):
            continue
        own = [each for each in slices if of_service(each, service)]
        for port in service["spec"].get("ports", ()):
            if port.get("protocol", "TCP") == "TCP":
                found[Front(address, port["port"])] = targets(own, port.get("name", ""))
    return found


def of_service(endpoints: Object, service: Object) -> bool:
    metadata, own = endpoints["metadata"], service["metadata"]
    labels = metadata.get("labels", {})
    same_room = metadata["namespace"] == own["namespace"]
    return same_room and labels.get("kubernetes.io/service-name") == own["name"]


def targets(slices: Sequence[Object], name: str) -> list[Target]:
    """Addresses to send to, with the number that the port of this name has there."""
    found = [
        ((address, port["port"]), endpoint.get("conditions", {}))
        for each in slices
        for port in each.get("ports") or ()
        if (port.get("name") or "") == name
        for endpoint in each.get("endpoints") or ()
        for address in endpoint["addresses"]
    ]
    ready = [target for target, conditions in found if conditions.get("ready", True)]
    leaving = [target for target, each in found if each.get("serving") and each.get("terminating")]
    return ready or leaving
