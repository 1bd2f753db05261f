"""Numbers, sends and replays KV event batches over ZMQ, and loses them when told to."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import zmq
import zmq.asyncio

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_sim.kvevents.encode import EventDialect
    from vllm_sim.options import EventOptions

END = b"\xff" * 8
HIGH_WATER = 100_000


class EndpointError(Exception):
    """An address that ZMQ can neither bind nor dial."""


@dataclass(slots=True)
class EventFaults:
    """Probabilities, 0 to 1, that a batch is lost, sent twice or swapped with the next one.

    A lost batch stays in the replay buffer, as it does when the network drops it.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0


class Publisher:
    """A PUB socket, bound or dialled, and a ROUTER for replay; all sends are non-blocking."""

    def __init__(
        self, options: EventOptions, topic: str, dialect: EventDialect, *, rank: int, seed: int
    ) -> None:
        self.options = options
        self.topic = topic.encode()
        self.dialect = dialect
        self.faults = EventFaults()
        self.next_seq = 0
        self._random = Random(seed)
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=max(options.buffer_steps, 1))
        self._late: list[bytes] | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pub = self._context.socket(zmq.PUB)
        self._pub.set_hwm(HIGH_WATER)
        self._pub.linger = 0
        self._router: zmq.asyncio.Socket | None = None
        self.endpoint = self._open(self._pub, ranked(options.endpoint, rank), options.bind)
        self.replay_endpoint = ""
        if options.replay_endpoint:
            self._router = zmq.asyncio.Context(self._context).socket(zmq.ROUTER)
            self._router.linger = 0
            wanted = ranked(options.replay_endpoint, rank)
            self.replay_endpoint = self._open(self._router, wanted, bind=True)

    def _open(self, socket: zmq.Socket[Any], endpoint: str, bind: bool | None) -> str:
        if bind is None:
            bind = any(sign in endpoint for sign in ("*", "::", "ipc://", "inproc://"))
        try:
            (socket.bind if bind else socket.connect)(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise EndpointError(f"no KV events over {endpoint}: {error}") from error
        if not bind:
            return endpoint
        return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))

    def publish(self, encode: Callable[[EventDialect], bytes]) -> None:
        """Gives a batch the next number and sends it, as the faults allow."""
        payload = encode(self.dialect)
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        self._buffer.append((seq, payload))
        frames = [self.topic, seq.to_bytes(8, "big"), payload]
        if self._random.random() < self.faults.loss:
            return
        if self._late is None and self._random.random() < self.faults.reorder:
            self._late = frames
            return
        self._send(frames)
        if self._random.random() < self.faults.duplicate:
            self._send(frames)
        if self._late is not None:
            late, self._late = self._late, None
            self._send(late)

    def _send(self, frames: list[bytes]) -> None:
        self._pub.send_multipart(frames, flags=zmq.NOBLOCK)

    def restart(self) -> None:
        """What a new engine process does: numbers from zero, nothing to replay."""
        self.next_seq = 0
        self._buffer.clear()
        self._late = None

    async def run(self) -> None:
        """Answers replay requests; returns at once when no replay socket is configured."""
        if self._router is None:
            await asyncio.Event().wait()
            return
        while True:
            frames = await self._router.recv_multipart()
            if len(frames) >= 2 and len(frames[-1]) == 8:
                await self._replay(frames[:-1], int.from_bytes(frames[-1], "big"))

    async def _replay(self, envelope: list[bytes], first: int) -> None:
        assert self._router is not None
        for seq, payload in list(self._buffer):
            if seq >= first:
                body = self._frames(seq.to_bytes(8, "big"), payload, self.topic)
                await self._router.send_multipart([*envelope, *body])
        await self._router.send_multipart([*envelope, *self._frames(END, b"", b"")])

    def _frames(self, seq: bytes, payload: bytes, topic: bytes) -> list[bytes]:
        with_topic = self.dialect.version.within((0, 25))
        return [topic, seq, payload] if with_topic else [seq, payload]

    def close(self) -> None:
        self._pub.close(0)
        if self._router is not None:
            self._router.close(0)
        self._context.term()


def ranked(endpoint: str, rank: int) -> str:
    """The endpoint of a data-parallel rank: its number is added to the TCP port."""
    if rank == 0:
        return endpoint
    if endpoint.startswith("inproc://"):
        return f"{endpoint}_dp{rank}"
    head, _, port = endpoint.rpartition(":")
    if not port.isdigit() or port == "0":
        return endpoint
    return f"{head}:{int(port) + rank}"
