"""The ZMQ sockets of the followed engines: subscriptions, links, replays.

They only move frames; what frames mean is decided elsewhere.
"""

import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import zmq

from epp.kvevents.decode import LARGEST_BATCH
from epp.kvevents.pump import Pump

END: Final = b"\xff" * 8
HIGH_WATER: Final = 2_000
"""Messages waiting to be read. More are lost by the sender, which their numbers show."""
HEARTBEAT_MS: Final = 3_000
LOST_AFTER_MS: Final = 9_000
RECONNECT_MS: Final = 100
RECONNECT_MOST_MS: Final = 2_000

Heard: TypeAlias = Callable[[bytes, int, bytes], None]
"""Topic, number, payload."""


class Subscription:
    """A SUB socket, dialled or bound. `linked` is called whenever a dialled link stands."""

    def __init__(
        self,
        context: "zmq.Context[Any]",
        pump: Pump,
        topic: bytes,
        heard: Heard,
        linked: Callable[[], None] | None = None,
    ) -> None:
        self._pump = pump
        self._heard = heard
        self._linked = linked
        self._socket = context.socket(zmq.SUB)
        self._monitor: zmq.Socket[Any] | None = None
        prepare(self._socket)
        self._socket.set(zmq.RCVHWM, HIGH_WATER)
        self._socket.subscribe(topic)

    def connect(self, address: str) -> None:
        """Dial and keep dialling. Raises zmq.ZMQError for what is no address."""
        self._monitor = self._socket.get_monitor_socket(zmq.Event.HANDSHAKE_SUCCEEDED)
        self._pump.add(self._monitor, self._on_link)
        self._pump.add(self._socket, self._on_message)
        self._socket.connect(address)

    def bind(self, address: str) -> str:
        """Listen; returns the address with its port. Raises zmq.ZMQError when it is taken."""
        self._pump.add(self._socket, self._on_message)
        self._socket.bind(address)
        return str(self._socket.get_string(zmq.LAST_ENDPOINT))

    def close(self) -> None:
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._pump.remove(self._monitor)
        self._pump.remove(self._socket)
        # One that was never added to the pump would keep the context from ending.
        self._socket.close(0)

    def _on_message(self, frames: list[bytes]) -> None:
        if len(frames) >= 3 and len(frames[-2]) == 8:
            (seq,) = struct.unpack(">Q", frames[-2])
            self._heard(frames[0], seq, frames[-1])

    def _on_link(self, _frames: list[bytes]) -> None:
        if self._linked is not None:
            self._linked()


class Replay:
    """One request for a replay: every batch from `first` on, then `ended`."""

    def __init__(
        self,
        context: "zmq.Context[Any]",
        pump: Pump,
        heard: Callable[[int, bytes], None],
        ended: Callable[[], None],
    ) -> None:
        self._pump = pump
        self._heard = heard
        self._ended = ended
        self._socket = context.socket(zmq.DEALER)
        self.replies = 0
        prepare(self._socket)

    def ask(self, address: str, first: int) -> None:
        """Dial and ask. Raises zmq.ZMQError for what is no address."""
        self._pump.add(self._socket, self._on_message)
        self._socket.connect(address)
        self._socket.send_multipart([b"", struct.pack(">Q", first)], zmq.NOBLOCK)
        self._pump.look(self._socket)

    def close(self) -> None:
        self._pump.remove(self._socket)

    def _on_message(self, frames: list[bytes]) -> None:
        """`(seq, payload)` or `(topic, seq, payload)`, after an empty frame or none."""
        if len(frames) < 2 or len(frames[-2]) != 8:
            return
        self.replies += 1
        if frames[-2] == END:
            self._ended()
            return
        (seq,) = struct.unpack(">Q", frames[-2])
        self._heard(seq, frames[-1])


def prepare(socket: "zmq.Socket[Any]") -> None:
    """Limits, and heartbeats that notice a peer which vanished without a word."""
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.MAXMSGSIZE, LARGEST_BATCH)
    socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST_MS)
    socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, LOST_AFTER_MS)
    socket.set(zmq.IPV6, 1)
