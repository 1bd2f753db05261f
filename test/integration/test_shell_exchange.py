"""One exchange, two wires, a real grpc client: both answer alike."""

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
from epp.wire.sockets import Listening, Server

TIMEOUT = 10


@pytest.fixture(params=[GrpcioServer, Server], ids=["grpcio", "own"])
def wire(request):
    return request.param


@contextlib.asynccontextmanager
async def serving(wire, path):
    """A server on a free port and a client that opens streams of `Process`."""
    faults: list[Exception] = []
    process = Process(path, budget=ByteBudget(1 << 20))
    server = wire({PROCESS: process}, faults.append)
    port = await server.listen(Listening())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield server, Client(channel)
        finally:
            await server.close()
    assert faults == []
    assert process.budget.held == 0
    assert process.open_streams == 0


class Client:
    """Opens streams of `Process` over a channel."""

    def __init__(self, channel):
        self.channel = channel

    def __call__(self, **options):
        method = self.channel.stream_stream(
            PROCESS,
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )
        return method(**options)


async def until(condition):
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - only the far side could tell
            await asyncio.sleep(0.005)


async def test_a_request_is_answered_and_its_response_passes(wire):
    path = RecordingPath()
    async with serving(wire, path) as (_, process):
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


async def test_a_refusal_ends_the_stream_with_ok(wire):
    def refuse(intake):
        raise NoEndpoints("no ready endpoint")

    async with serving(wire, RecordingPath(refuse)) as (_, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(request_headers(end=True, method="GET", path="/v1/models"))

        answer = await stream.read()

        assert answer.immediate_response.status.code == 503
        assert await stream.read() == grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK


async def test_a_mode_that_cannot_be_served_is_a_clear_error(wire):
    async with serving(wire, RecordingPath()) as (_, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(modes(request_headers(), "STREAMED", "NONE"))

        with pytest.raises(grpc.aio.AioRpcError, match="request_body_mode STREAMED") as error:
            await stream.read()
        assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_a_stream_cancelled_while_it_waits_withdraws_its_request(wire):
    waiting = asyncio.get_running_loop().create_future()
    path = RecordingPath(lambda intake: waiting)
    async with serving(wire, path) as (server, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(request_headers(end=True))
        await until(lambda: path.intakes)

        stream.cancel()

        await until(lambda: waiting.cancelled())
        await until(lambda: server.open_streams == 0)


async def test_a_stream_cancelled_in_mid_answer_ends_its_ticket(wire):
    path = RecordingPath()
    async with serving(wire, path) as (_, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(request_headers(end=True))
        await stream.read()
        await stream.write(response_headers(200))
        await stream.read()

        stream.cancel()

        await until(lambda: path.tickets[0].endings)
        assert path.tickets[0].endings == [Ending.CLIENT_GONE]


async def test_an_unknown_method_is_unimplemented(wire):
    async with serving(wire, RecordingPath()) as (_, process):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await process.channel.unary_unary("/no.such.Service/Method")(b"", timeout=TIMEOUT)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_drain_ends_open_responses_with_ok(wire):
    path = RecordingPath()
    async with serving(wire, path) as (server, process):
        stream = process(timeout=TIMEOUT)
        await stream.write(modes(request_headers(end=True), "BUFFERED", "NONE"))
        await stream.read()
        await stream.write(response_headers(200))
        await stream.read()

        await server.drain(asyncio.get_running_loop().time() + 0.1)

        assert await stream.read() == grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK
        assert path.tickets[0].endings == [Ending.DRAINED]


async def test_a_drain_waits_for_a_stream_that_finishes(wire):
    path = RecordingPath()
    async with serving(wire, path) as (server, process):
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


async def test_an_address_in_use_is_an_oserror(wire):
    async with serving(wire, RecordingPath()):
        first = wire({}, pytest.fail)
        port = await first.listen(Listening())
        try:
            with pytest.raises(OSError, match=r"listen|in use"):
                await wire({}, pytest.fail).listen(Listening(port=port))
        finally:
            await first.close()
