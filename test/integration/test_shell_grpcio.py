"""The grpc.aio shell with a real grpc client: the same exchange, over sockets."""

import asyncio
import contextlib

import grpc
import pytest
from support.ext_proc import (
    RecordingPath,
    headers_set,
    modes,
    request_body,
    request_headers,
    response_body,
    response_headers,
)

from epp.domain.response import Ending
from epp.errors import NoEndpoints
from epp.wire.budget import ByteBudget
from epp.wire.gen.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from epp.wire.grpcio_shell import GrpcioServer
from epp.wire.session import PROCESS, Process
from epp.wire.sockets import Listening

TIMEOUT = 10


@contextlib.asynccontextmanager
async def serving(path, **options):
    """A shell on a free port and a client's stub of `Process`."""
    faults: list[Exception] = []
    process = Process(path, budget=ByteBudget(1 << 20))
    server = GrpcioServer({PROCESS: process}, faults.append, **options)
    port = await server.listen(Listening())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield (
                server,
                channel.stream_stream(
                    PROCESS,
                    request_serializer=ProcessingRequest.SerializeToString,
                    response_deserializer=ProcessingResponse.FromString,
                ),
            )
        finally:
            await server.close()
    assert faults == []
    assert process.budget.held == 0
    assert process.open_streams == 0


async def until(condition):
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_request_is_answered_and_its_response_passes():
    path = RecordingPath()
    async with serving(path) as (_, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(modes(request_headers(), *["FULL_DUPLEX_STREAMED"] * 2))
        await stream.write(request_body(b'{"model": "m"}', end=True))
        placed = await stream.read()
        body = await stream.read()
        await stream.write(response_headers(200))
        started = await stream.read()
        await stream.write(response_body(b"{}", end=True))
        passed = await stream.read()
        await stream.done_writing()

        assert await stream.read() == grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK

    mutation = placed.request_headers.response.header_mutation
    assert headers_set(mutation)["x-gateway-destination-endpoint"] == "10.0.0.1:8000"
    assert body.request_body.response.body_mutation.streamed_response.body == b'{"model": "m"}'
    assert started.HasField("response_headers")
    assert passed.response_body.response.body_mutation.streamed_response.end_of_stream
    assert path.tickets[0].endings == [Ending.COMPLETE]


async def test_a_refusal_ends_the_stream_with_ok():
    def refuse(intake):
        raise NoEndpoints("no ready endpoint")

    async with serving(RecordingPath(refuse)) as (_, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(request_headers(end=True, method="GET", path="/v1/models"))

        answer = await stream.read()

        assert answer.immediate_response.status.code == 503
        assert await stream.read() == grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK


async def test_a_mode_that_cannot_be_served_is_a_clear_error():
    async with serving(RecordingPath()) as (_, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(modes(request_headers(), "STREAMED", "NONE"))

        assert await stream.read() == grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "STREAMED" in await stream.details()


async def test_a_stream_cancelled_while_it_waits_withdraws_its_request():
    waiting = asyncio.get_running_loop().create_future()
    path = RecordingPath(lambda intake: waiting)
    async with serving(path) as (server, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(request_headers(end=True))
        await until(lambda: path.intakes)

        stream.cancel()

        await until(lambda: waiting.cancelled())
        await until(lambda: server.open_streams == 0)


async def test_a_stream_cancelled_in_mid_answer_ends_its_ticket():
    path = RecordingPath()
    async with serving(path) as (_, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(request_headers(end=True))
        await stream.read()
        await stream.write(response_headers(200))
        await stream.read()

        stream.cancel()

        await until(lambda: path.tickets[0].endings)
        assert path.tickets[0].endings == [Ending.CLIENT_GONE]


async def test_an_unknown_method_is_unimplemented():
    async with serving(RecordingPath()) as (server, _):
        del _
        assert server.open_streams == 0


async def test_a_drain_ends_open_responses_with_ok():
    path = RecordingPath()
    async with serving(path) as (server, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(modes(request_headers(end=True), "BUFFERED", "NONE"))
        await stream.read()
        await stream.write(response_headers(200))
        await stream.read()

        await server.drain(asyncio.get_running_loop().time() + 0.1)

        assert await stream.read() == grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK
        assert path.tickets[0].endings == [Ending.DRAINED]


async def test_a_drain_waits_for_a_stream_that_finishes():
    path = RecordingPath()
    async with serving(path) as (server, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(modes(request_headers(end=True), "BUFFERED", "NONE"))
        await stream.read()
        loop = asyncio.get_running_loop()
        drain = asyncio.ensure_future(server.drain(loop.time() + TIMEOUT))
        await stream.write(response_headers(200))
        await stream.read()
        await stream.done_writing()

        await asyncio.wait_for(drain, TIMEOUT)

        assert path.tickets[0].endings == [Ending.COMPLETE]


async def test_an_address_in_use_is_an_oserror():
    async with serving(RecordingPath()):
        first = GrpcioServer({}, pytest.fail)
        port = await first.listen(Listening())
        try:
            with pytest.raises(OSError, match="cannot listen"):
                await GrpcioServer({}, pytest.fail).listen(Listening(port=port))
        finally:
            await first.close()
