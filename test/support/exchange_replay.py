"""Exchanges as the frames a client wrote, kept in files, and a client that writes them again.

Each frame is kept with what its client had heard on that stream by then: how many messages, and
one more for the end. A replay writes a frame no sooner, so it waits where Envoy waited; and no
faster than the server's windows allow, for not every server opens them as wide.
"""

import base64
import json
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hpack import Decoder

from epp.wire import frames
from epp.wire.frames import DEFAULT_WINDOW, HEADER_SIZE, PREFACE, frame_header

SECONDS = 20.0
TO_THE_END = None
_OWN_TO_THE_CONNECTION = (frames.PING, frames.GOAWAY)


@dataclass(frozen=True)
class Frame:
    """One frame of the client's; `after` says how much it had heard on this stream."""

    after: int
    data: bytes

    def __repr__(self) -> str:
        return f"<{self.kind} on {self.stream}, flags {self.flags}: {self.data[9:60]!r}>"

    @property
    def kind(self) -> int:
        return self.data[3]

    @property
    def flags(self) -> int:
        return self.data[4]

    @property
    def stream(self) -> int:
        return int.from_bytes(self.data[5:9], "big")

    @property
    def size(self) -> int:
        return len(self.data) - HEADER_SIZE


@dataclass(frozen=True)
class Recording:
    """One connection: its client's frames in order, and how much it heard on each stream.

    What a stream says after its client has reset it is left to chance, so it does not count.
    """

    frames: list[Frame]
    heard: dict[int, int]

    @classmethod
    def of(cls, written: list[Frame], heard: dict[int, int]) -> "Recording":
        resets = {each.stream: each.after for each in written if each.kind == frames.RST_STREAM}
        return cls(written, heard | resets)

    def save(self, path: Path) -> None:
        lines = [json.dumps({"heard": self.heard})]
        lines += [
            json.dumps({"after": each.after, "frame": base64.b64encode(each.data).decode()})
            for each in self.frames
        ]
        path.write_text("\n".join(lines) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Recording":
        head, *rest = map(json.loads, path.read_text().splitlines())
        return cls(
            [Frame(each["after"], base64.b64decode(each["frame"])) for each in rest],
            {int(stream): heard for stream, heard in head["heard"].items()},
        )


def frames_in(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole frames at the beginning of `data`, and the rest."""
    found = []
    while len(data) >= HEADER_SIZE and len(data) >= (
        size := HEADER_SIZE + int.from_bytes(data[:3], "big")
    ):
        found.append(data[:size])
        data = data[size:]
    return found, data


@dataclass
class Heard:
    """What came back on one stream."""

    data: bytes = b""
    fields: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None

    @property
    def messages(self) -> list[bytes]:
        return list(_messages_in(self.data))

    @property
    def count(self) -> int:
        return len(self.messages) + self.over

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None

    @property
    def status(self) -> tuple[str | None, str | None]:
        """gRPC status and message, if the stream was ended by the server."""
        return self.fields.get("grpc-status"), self.fields.get("grpc-message") or None


def _messages_in(data: bytes) -> Iterator[bytes]:
    while len(data) >= 5:
        (size,) = struct.unpack(">I", data[1:5])
        if len(data) < 5 + size:
            return
        yield data[5 : 5 + size]
        data = data[5 + size :]


class Ears:
    """Reads a server's frames: what streams hear, and how far the windows are open."""

    def __init__(self) -> None:
        self.streams: dict[int, Heard] = defaultdict(Heard)
        self.greeted = False
        self.answers = b""
        self.initial = DEFAULT_WINDOW
        self.window = DEFAULT_WINDOW
        self.spent: dict[int, int] = defaultdict(int)
        self._decoder = Decoder()
        self._rest = b""

    def room(self, stream: int) -> int:
        return min(self.window, self.initial - self.spent[stream])

    def spend(self, stream: int, size: int) -> None:
        self.window -= size
        self.spent[stream] += size

    def hear(self, data: bytes) -> None:
        whole, self._rest = frames_in(self._rest + data)
        for each in whole:
            self._hear(each[3], each[4], int.from_bytes(each[5:9], "big"), each[HEADER_SIZE:])

    def _hear(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        match kind:
            case frames.DATA:
                self.streams[stream].data += payload
                self.answers += frames.window_frame(0, len(payload)) if payload else b""
            case frames.HEADERS:
                assert flags & frames.END_HEADERS, "answers of these tests fit into a frame"
                fields = self._decoder.decode(payload)
                self.streams[stream].fields |= {str(name): str(value) for name, value in fields}
            case frames.RST_STREAM:
                self.streams[stream].reset = int.from_bytes(payload, "big")
            case frames.SETTINGS if not flags & frames.ACK:
                self.greeted = True
                values = frames.settings_in(payload, 0, len(payload))
                self.initial = values.get(frames.Setting.INITIAL_WINDOW_SIZE, self.initial)
            case frames.PING if not flags & frames.ACK:
                self.answers += frames.ping_frame(payload, frames.ACK)
            case frames.GOAWAY:
                raise AssertionError(f"the server ends the connection: {payload!r}")
            case frames.WINDOW_UPDATE if stream:
                self.spent[stream] -= int.from_bytes(payload, "big")
            case frames.WINDOW_UPDATE:
                self.window += int.from_bytes(payload, "big")
        if kind in (frames.DATA, frames.HEADERS) and flags & frames.END_STREAM:
            self.streams[stream].ended = True


class Replay:
    """Writes a client's frames to a server; `run` returns what each stream heard."""

    def __init__(self, port: int) -> None:
        self._ears = Ears()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self, written: Iterable[Frame], heard: dict[int, int | None]) -> dict[int, Heard]:
        """`heard` is how much each stream is to hear, or TO_THE_END. Raises AssertionError.

        The connection is closed when all have: what is open then is lost.
        """
        with self._socket:
            self._socket.sendall(PREFACE)
            for frame in written:
                self._write(frame)
            for stream, count in heard.items():
                self._until(lambda s=stream, c=count: self._has_heard(s, c), stream)
        return dict(self._ears.streams)

    def _write(self, frame: Frame) -> None:
        ears = self._ears
        if frame.kind in _OWN_TO_THE_CONNECTION:
            return
        if frame.kind == frames.SETTINGS and frame.flags & frames.ACK:
            self._until(lambda: ears.greeted, 0)
        self._until(lambda: self._has_heard(frame.stream, frame.after), frame.stream)
        if frame.kind == frames.DATA and frame.size:
            self._until(lambda: self._may_send(frame), frame.stream)
            if frame.size > ears.room(frame.stream):
                return
            ears.spend(frame.stream, frame.size)
        self._socket.sendall(frame.data)

    def _has_heard(self, stream: int, count: int | None) -> bool:
        heard = self._ears.streams[stream]
        return heard.over if count is TO_THE_END else heard.count >= count

    def _may_send(self, frame: Frame) -> bool:
        """There is room, or nobody to send it to: a server that has said all opens no window."""
        return self._ears.room(frame.stream) >= frame.size or self._ears.streams[frame.stream].over

    def _until(self, condition, stream: int) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                raise AssertionError(f"stream {stream}: no more comes") from None
            assert data, "the server closed the connection"
            self._ears.hear(data)
            if self._ears.answers:
                self._socket.sendall(self._ears.answers)
                self._ears.answers = b""


def written(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return frame_header(len(payload) << 8 | kind, flags, stream) + payload
