"""The health service on both wires, asked by grpcio's own client."""

import asyncio
import contextlib
import datetime as dt

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from epp.wire.grpcio_shell import GrpcioServer
from epp.wire.health import Health
from epp.wire.readiness import Readiness
from epp.wire.sockets import Listening, Server
from epp.wire.tls import KeyPairFiles, TlsContexts, grpcio_credentials, self_signed

TIMEOUT = 10
SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


@pytest.fixture(params=["grpcio", "own"])
def wire(request):
    return request.param


@contextlib.asynccontextmanager
async def serving(wire, readiness, pairs=None):
    """A server of the health methods alone, in the clear or with the key pairs given."""
    methods = Health(readiness).methods
    if wire == "grpcio":
        credentials = None if pairs is None else grpcio_credentials(pairs)
        server = GrpcioServer(methods, pytest.fail, credentials=credentials)
    else:
        server = Server(methods, pytest.fail, tls=None if pairs is None else TlsContexts(pairs))
    port = await server.listen(Listening())
    try:
        yield server, port
    finally:
        await server.close()


async def test_check_and_list_follow_readiness(wire):
    readiness = Readiness("synced")
    async with (
        serving(wire, readiness) as (_, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="readiness")
        before = await stub.Check(request, timeout=TIMEOUT)
        readiness.met("synced")
        after = await stub.Check(request, timeout=TIMEOUT)
        listed = await stub.List(health_pb2.HealthListRequest(), timeout=TIMEOUT)
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=TIMEOUT)

    assert (before.status, after.status) == (NOT_SERVING, SERVING)
    assert len(listed.statuses) == 5
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_watch_follows_and_does_not_hold_up_a_drain(wire):
    readiness = Readiness("synced")
    async with (
        serving(wire, readiness) as (server, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        request = health_pb2.HealthCheckRequest()
        watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=TIMEOUT)
        statuses = [(await watch.read()).status]
        readiness.met("synced")
        statuses.append((await watch.read()).status)
        readiness.drain()
        statuses.append((await watch.read()).status)
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(server.drain(loop.time() + 60), TIMEOUT)

        assert await watch.code() == grpc.StatusCode.UNAVAILABLE

    assert statuses == [NOT_SERVING, SERVING, NOT_SERVING]


async def test_a_changed_certificate_is_shown_to_the_next_connection(wire, tmp_path):
    def write():
        pair = self_signed(dt.datetime.now(dt.UTC))
        (tmp_path / "tls.crt").write_bytes(pair.certificate)
        (tmp_path / "tls.key").write_bytes(pair.key)
        return pair

    async def check(port, trusted):
        credentials = grpc.ssl_channel_credentials(trusted.certificate)
        options = [("grpc.ssl_target_name_override", "localhost")]
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)).status

    first = write()
    async with serving(wire, Readiness(), KeyPairFiles(tmp_path)) as (_, port):
        assert await check(port, first) == SERVING
        assert await check(port, write()) == SERVING
