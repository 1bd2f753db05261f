"""Frames of a plausible client, and ways to spoil them: for the property tests and the fuzz run."""

from __future__ import annotations

import random
from collections.abc import Iterator

from support.http2_peer import grpc_head, message

from epp.wire import frames
from epp.wire.frames import frame_header
from epp.wire.headers import encoded

PATHS = ("/echo.Echo/Unary", "/echo.Echo/Bidi", "/echo.Echo/Silent", "/echo.Echo/None", "/")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frame_header(len(payload) << 8 | kind, flags, stream) + payload


def conversation(seed: int) -> Iterator[bytes]:
    """Frames without end: calls that open, talk, end or are reset, and the frames between."""
    chance = random.Random(seed)
    stream = 1
    open_streams: list[int] = []
    yield frames.SETTINGS_ACK
    while True:
        kind = chance.randrange(12)
        if kind < 3 or not open_streams:
            yield _opening(chance, stream)
            open_streams.append(stream)
            stream += 2
        elif kind < 7:
            yield frame(frames.DATA, 0, chance.choice(open_streams), _body(chance))
        elif kind < 9:
            done = open_streams.pop(chance.randrange(len(open_streams)))
            yield frame(frames.DATA, frames.END_STREAM, done, message(b"bye"))
        else:
            yield _aside(chance, open_streams)
        del open_streams[:-50]


def _opening(chance: random.Random, stream: int) -> bytes:
    head = grpc_head(chance.choice(PATHS), x_n=str(chance.randrange(50)))
    block = encoded([(name.encode(), value.encode()) for name, value in head])
    if chance.random() < 0.2:
        cut = chance.randrange(len(block))
        first = frame(frames.HEADERS, 0, stream, block[:cut])
        return first + frame(frames.CONTINUATION, frames.END_HEADERS, stream, block[cut:])
    return frame(frames.HEADERS, frames.END_HEADERS, stream, block)


def _body(chance: random.Random) -> bytes:
    body = message(bytes(chance.choice((0, 1, 100, 3_000))))
    return body if chance.random() < 0.7 else body[: chance.randrange(len(body) + 1)]


def _aside(chance: random.Random, streams: list[int]) -> bytes:
    stream = chance.choice(streams)
    return chance.choice(
        (
            frame(frames.PING, 0, 0, bytes(8)),
            frame(frames.SETTINGS, 0, 0, b"\x00\x04" + chance.randbytes(2).rjust(4, b"\0")),
            frames.window_frame(0, chance.randrange(1, 5_000)),
            frames.window_frame(stream, chance.randrange(1, 5_000)),
            frames.reset_frame(stream, 8),
            frame(frames.PRIORITY, 0, stream, bytes(5)),
            frame(99, 0, stream, b"?"),
        )
    )


class Mutator:
    """Spoils one frame in five: bits, lengths, types, flags, streams, cuts, repeats."""

    def __init__(self, seed: int, share: float = 0.2) -> None:
        self._chance = random.Random(seed)
        self._share = share
        self._ways = (
            self._flip,
            self._cut,
            self._header,
            self._insert,
            self._repeat,
            self._noise,
            self._flags,
        )

    def mutated(self, source: Iterator[bytes], count: int) -> Iterator[bytes]:
        for _ in range(count):
            data = next(source)
            if self._chance.random() < self._share:
                data = self._chance.choice(self._ways)(data)
            yield data

    def _flip(self, data: bytes) -> bytes:
        spoiled = bytearray(data)
        for _ in range(self._chance.randrange(1, 4)):
            spoiled[self._chance.randrange(len(spoiled))] ^= 1 << self._chance.randrange(8)
        return bytes(spoiled)

    def _cut(self, data: bytes) -> bytes:
        return data[: self._chance.randrange(len(data))]

    def _header(self, data: bytes) -> bytes:
        at = self._chance.randrange(9)
        return data[:at] + self._chance.randbytes(1) + data[at + 1 :]

    def _flags(self, data: bytes) -> bytes:
        return data[:4] + self._chance.randbytes(1) + data[5:]

    def _insert(self, data: bytes) -> bytes:
        at = self._chance.randrange(len(data))
        return data[:at] + self._chance.randbytes(self._chance.randrange(1, 9)) + data[at:]

    def _repeat(self, data: bytes) -> bytes:
        return data * self._chance.randrange(2, 5)

    def _noise(self, data: bytes) -> bytes:
        body = self._chance.randbytes(self._chance.randrange(40))
        stream = self._chance.choice((0, 1, 2, 3, 5, 2**31 - 1))
        return frame(self._chance.randrange(12), self._chance.randrange(256), stream, body)
