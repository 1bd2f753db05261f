"""gRPC methods on our own wire and a grpcio channel to them, in one process."""

import contextlib
from collections.abc import AsyncIterator

import grpc

from epp.wire.calls import Methods
from epp.wire.sockets import Listening, Server


@contextlib.asynccontextmanager
async def serving_methods(methods: Methods) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server on a free port of the loopback; a fault of a handler fails the test."""
    faults: list[Exception] = []
    server = Server(methods, faults.append)
    port = await server.listen(Listening())
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.close()
    assert faults == []
