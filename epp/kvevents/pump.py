"""Reads ZMQ sockets on the event loop without ever holding it up.

A socket says through its descriptor that something has come. What has come is then read message by
message, all sockets in turn, for a millisecond at most before the loop goes on with other work:
so a pick waits for one message at most, however many there are.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import zmq

SLICE: Final = 0.001
"""Seconds of reading in one turn of the loop."""

Hear: TypeAlias = Callable[[list[bytes]], None]


class Pump:
    """Sockets and who hears their messages. Belongs to the loop that runs when it is made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._hearers: dict[zmq.Socket[Any], Hear] = {}
        self._ready: dict[zmq.Socket[Any], None] = {}
        self._turning = False

    def add(self, socket: "zmq.Socket[Any]", hear: Hear) -> None:
        """Tell `hear` every message of `socket`, frames in a list, until `remove`."""
        self._hearers[socket] = hear
        self._loop.add_reader(descriptor(socket), self.look, socket)
        self.look(socket)

    def look(self, socket: "zmq.Socket[Any]") -> None:
        """There may be something: the descriptor says so once, and sending may swallow it."""
        self._ready[socket] = None
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)

    def remove(self, socket: "zmq.Socket[Any]") -> None:
        """Hear no more of `socket`, and close it."""
        if self._hearers.pop(socket, None) is not None:
            self._loop.remove_reader(descriptor(socket))
            self._ready.pop(socket, None)
            socket.close(0)

    def _turn(self) -> None:
        end = time.perf_counter() + SLICE
        self._turning = False
        try:
            while self._ready and time.perf_counter() < end:
                self._read_one(next(iter(self._ready)))
        finally:
            if self._ready and not self._turning:
                self._turning = True
                self._loop.call_soon(self._turn)

    def _read_one(self, socket: "zmq.Socket[Any]") -> None:
        """One message, after which the socket goes to the end of the row."""
        del self._ready[socket]
        # Asked first: the exception that nothing has come costs 8 us, and it comes for each batch.
        if not int(socket.get(zmq.EVENTS)) & zmq.POLLIN:
            return
        frames = socket.recv_multipart(zmq.NOBLOCK)
        self._ready[socket] = None
        self._hearers[socket](frames)


def descriptor(socket: "zmq.Socket[Any]") -> int:
    """Readable when the socket has something to say."""
    return int(socket.get(zmq.FD))
