"""An HTTP/2 client made of the `h2` library, wired in memory to a connection under test."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import h2.config
import h2.connection
import h2.events
import h2.settings
from support.wire_echo import echo_methods

from epp.wire.budget import Backlog
from epp.wire.calls import Method
from epp.wire.grpc import Router
from epp.wire.http2 import Connection
from epp.wire.limits import Limits

Split = Callable[[bytes], Sequence[bytes]]


def whole(data: bytes) -> Sequence[bytes]:
    return [data]


def grpc_head(path: str, **extra: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "picker"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *((name.replace("_", "-"), value) for name, value in extra.items()),
    ]


def message(data: bytes, flag: int = 0) -> bytes:
    """A gRPC message with its five-byte prefix."""
    return struct.pack(">BI", flag, len(data)) + data


def messages_in(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = struct.unpack(">I", data[1:5])[0]
        found.append(data[5 : 5 + size])
        data = data[5 + size :]
    return found


class Peer:
    """Client and server side of one connection, with the clock in the test's hand."""

    def __init__(
        self,
        methods: Mapping[str, Method] | None = None,
        limits: Limits | None = None,
        split: Split = whole,
        client_settings: Mapping[int, int] | None = None,
        backlog: Backlog | None = None,
    ) -> None:
        self.now = 1_000.0
        self.methods = methods or echo_methods()
        self.faults: list[Exception] = []
        self.wakes = 0
        self.server = Connection(
            Router(self.methods, self.faults.append).accept,
            now=self.now,
            limits=limits,
            wake=self._wake,
            peer="ipv4:192.0.2.1:50000",
            backlog=backlog,
        )
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.client = h2.connection.H2Connection(config=config)
        if client_settings:
            self.client.local_settings = h2.settings.Settings(
                client=True, initial_values=dict(client_settings)
            )
        self.split = split
        self.auto_credit = True
        self.data: dict[int, bytes] = defaultdict(bytes)
        self.heads: dict[int, dict[str, str]] = {}
        self.trailers: dict[int, dict[str, str]] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaways: list[tuple[int, int]] = []
        self.written = b""

    def _wake(self) -> None:
        self.wakes += 1

    def greet(self) -> Peer:
        self.client.initiate_connection()
        return self.exchange()

    def exchange(self) -> Peer:
        """Move bytes both ways until both sides are silent."""
        while True:
            up = self.client.data_to_send()
            for piece in self.split(up) if up else ():
                self.server.receive(piece, self.now)
            down = self.server.take()
            if down:
                self.hear(down)
            elif not up:
                return self

    def hear(self, data: bytes) -> None:
        self.written += data
        for event in self.client.receive_data(data):
            self._note(event)

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.heads[event.stream_id] = dict(event.headers)
            case h2.events.TrailersReceived():
                self.trailers[event.stream_id] = dict(event.headers)
            case h2.events.DataReceived():
                self.data[event.stream_id] += event.data
                if self.auto_credit:
                    self._credit(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.resets[event.stream_id] = int(event.error_code)
            case h2.events.ConnectionTerminated():
                self.goaways.append((event.last_stream_id, int(event.error_code)))

    def _credit(self, size: int, stream_id: int) -> None:
        if size and stream_id in self.client.streams:
            self.client.acknowledge_received_data(size, stream_id)

    def call(self, path: str, *messages: bytes, end: bool = True, **extra: str) -> int:
        """Open a call, send messages and maybe half-close; returns the stream id."""
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, grpc_head(path, **extra))
        for data in messages:
            self.send(stream_id, message(data))
        if end:
            self.client.end_stream(stream_id)
        self.exchange()
        return stream_id

    def send(self, stream_id: int, data: bytes) -> None:
        """Send data as the server's windows allow; the exchange in between must open them."""
        while data:
            room = min(
                self.client.local_flow_control_window(stream_id),
                self.client.max_outbound_frame_size,
            )
            if not room:
                self.exchange()
                assert self.client.local_flow_control_window(stream_id), "window stays shut"
                continue
            self.client.send_data(stream_id, data[:room])
            data = data[room:]

    def raw(self, data: bytes) -> Peer:
        """Let the server read bytes that `h2` would refuse to write."""
        self.server.receive(data, self.now)
        down = self.server.take()
        if down:
            self.hear(down)
        return self

    def later(self, seconds: float) -> Peer:
        self.now += seconds
        self.server.tick(self.now)
        return self.exchange()

    def status(self, stream_id: int) -> int:
        """The gRPC status that ended a call, in trailers or alone."""
        source = self.trailers.get(stream_id) or self.heads[stream_id]
        return int(source["grpc-status"])

    def replies(self, stream_id: int) -> list[bytes]:
        return messages_in(self.data[stream_id])
