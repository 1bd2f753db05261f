"""The same frames through both wires, over real sockets: the same replies.

Recorded: what real Envoy wrote, in every way it can speak with a picker. Generated: any order of
messages, on several streams at once, cut into frames anywhere.
"""

import asyncio
import contextlib
import itertools
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.exchange_replay import TO_THE_END, Frame, Heard, Recording, Replay, written
from support.exchange_script import Script, scripted
from support.ext_proc import (
    modes,
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
    response_trailers,
)
from support.http2_peer import grpc_head, message

from epp.wire import frames
from epp.wire.gen.external_processor_pb2 import ProcessingResponse
from epp.wire.grpcio_shell import GrpcioServer
from epp.wire.headers import encoded
from epp.wire.session import PROCESS
from epp.wire.sockets import Listening, Server

RECORDINGS = sorted((Path(__file__).parents[1] / "testdata" / "exchanges").glob("*.jsonl"))
SHELLS = {"own": Server, "grpcio": GrpcioServer}


class Served:
    """One shell on a loop of its own; a fresh path and process for each replay."""

    def __init__(self, loop: asyncio.AbstractEventLoop, shell) -> None:
        self._loop = loop
        self._shell = shell

    @contextlib.contextmanager
    def listening(self):
        path = Script()
        faults: list[Exception] = []
        process = scripted(path)
        server, port = self._wait(self._start({PROCESS: process}, faults))
        try:
            yield port, path
            self._wait(self._left(process))
        finally:
            self._wait(server.close())
        assert faults == []
        assert process.budget.held == 0
        assert process.open_streams == 0

    async def _start(self, methods, faults):
        server = self._shell(methods, faults.append)
        return server, await server.listen(Listening())

    @staticmethod
    async def _left(process):
        """The client is gone: a picker that stops before it has noticed would say `drained`."""
        async with asyncio.timeout(20):
            while process.open_streams:  # noqa: ASYNC110 - only the far side could tell
                await asyncio.sleep(0.002)

    def _wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)


@pytest.fixture(scope="module")
def shells():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield {name: Served(loop, shell) for name, shell in SHELLS.items()}
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@dataclass
class Outcome:
    """All that can be told apart from outside, and what the path was told."""

    replies: dict[int, list[ProcessingResponse]]
    statuses: dict[int, tuple[str | None, str | None]]
    endings: list[str]


def replayed(served: Served, sent: list[Frame], heard: dict[int, int | None]) -> Outcome:
    with served.listening() as (port, path):
        found = Replay(port).run(sent, heard)
    resets = {frame.stream for frame in sent if frame.kind == frames.RST_STREAM}
    return Outcome(
        {stream: replies(found[stream], heard[stream]) for stream in sorted(heard)},
        {stream: found[stream].status for stream in sorted(set(heard) - resets)},
        sorted(str(ticket.endings) for ticket in path.tickets),
    )


def replies(heard: Heard, count: int | None) -> list[ProcessingResponse]:
    return [ProcessingResponse.FromString(each) for each in heard.messages[:count]]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_what_envoy_wrote_is_answered_alike(shells, path):
    recording = Recording.load(path)

    own, other = (
        replayed(shells[name], recording.frames, recording.heard) for name in ("own", "grpcio")
    )

    assert len(own.replies) >= 15
    assert own == other


def test_every_way_to_speak_was_recorded():
    ways = {f"{asked}-{told}" for asked in ("duplex", "buffered") for told in MODES}

    assert {path.stem for path in RECORDINGS} == ways


MODES = ("full", "watch", "forget")
BODY_MODES = ["FULL_DUPLEX_STREAMED", "BUFFERED", "NONE", "STREAMED"]
BODIES = st.sampled_from([b"", b"{}", b"y" * 1_000, b"z" * 20_000, b"z" * 40_000])
REQUEST = st.one_of(
    st.builds(lambda data, end: request_body(data, end=end), BODIES, st.booleans()),
    st.builds(request_trailers),
    st.builds(lambda: request_headers()),
)
RESPONSE = st.one_of(
    st.builds(lambda end: response_headers(end=end), st.booleans()),
    st.builds(lambda data, end: response_body(data, end=end), BODIES, st.booleans()),
    st.builds(response_trailers),
)


@st.composite
def exchanges(draw) -> list:
    """All messages of one stream: in an order that makes sense, mostly.

    None waits to be placed: whether the next message overtakes it is left to chance.
    """
    script = draw(st.sampled_from(["", "change", "refuse", "break"]))
    first = request_headers({"x-test": script, "x-request-id": "theirs"}, end=draw(st.booleans()))
    names = [draw(st.sampled_from(BODY_MODES[: draw(st.integers(3, 4))])) for _ in range(2)]
    request = draw(st.lists(REQUEST, max_size=3))
    return [modes(first, *names), *request, *draw(st.lists(RESPONSE, max_size=4))]


class Written:
    """The frames of a connection; shown by what its streams say."""

    def __init__(self, streams: list[list], sizes: list[int], turns: list[int]) -> None:
        self.streams, self.sizes, self.turns = streams, sizes, turns

    def __repr__(self) -> str:
        said = [" ".join(str(each)[:400] for each in messages) for messages in self.streams]
        return f"sizes {self.sizes}, turns {self.turns}: {said}"

    @property
    def frames(self) -> list[Frame]:
        """Streams are opened in their order, what follows is mixed as `turns` say."""
        wide = [(frames.Setting.INITIAL_WINDOW_SIZE, 1 << 20)]
        sent = [frames.settings_frame(wide), frames.window_frame(0, 1 << 24), frames.SETTINGS_ACK]
        queues = [self._stream(number) for number in range(len(self.streams))]
        sent += [queue.pop(0) for queue in queues]
        for turn in self.turns:
            sent += queues[turn % len(queues)][:1]
            del queues[turn % len(queues)][:1]
        return [Frame(0, each) for each in [*sent, *itertools.chain(*queues)]]

    def _stream(self, number: int) -> list[bytes]:
        stream = 2 * number + 1
        head = encoded([(name.encode(), value.encode()) for name, value in grpc_head(PROCESS)])
        data = b"".join(message(each.SerializeToString()) for each in self.streams[number])
        size = self.sizes[number] if len(data) < 5_000 else 16_384
        cuts = [data[at : at + size] for at in range(0, len(data), size)]
        return [
            written(frames.HEADERS, frames.END_HEADERS, stream, head),
            *(written(frames.DATA, 0, stream, cut) for cut in cuts),
            written(frames.DATA, frames.END_STREAM, stream),
        ]


CONNECTIONS = st.builds(
    Written,
    st.lists(exchanges(), min_size=1, max_size=3),
    st.lists(st.sampled_from([7, 1_000, 16_384]), min_size=3, max_size=3),
    st.lists(st.integers(0, 2), max_size=30),
)


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(CONNECTIONS)
def test_whatever_is_written_is_answered_alike(shells, connection):
    """Every stream is ended by its client, so that every one is ended by the picker as well."""
    sent = connection.frames
    heard = {frame.stream: TO_THE_END for frame in sent if frame.stream}

    own, other = (replayed(shells[name], sent, heard) for name in ("own", "grpcio"))

    assert own == other
