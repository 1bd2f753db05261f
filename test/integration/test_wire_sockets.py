"""Ports that are shared, and Unix sockets: taken over from the dead and from nobody else."""

import asyncio
import socket
import stat

import grpc
import pytest
from support.wire_echo import echo_methods

from epp.wire.grpcio_shell import GrpcioServer
from epp.wire.listeners import NO_PORT
from epp.wire.sockets import Listening, Server


@pytest.fixture(params=[GrpcioServer, Server], ids=["grpcio", "own"])
def wire(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "epp.sock"


def bound(path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    return listener


def at(path) -> Listening:
    return Listening(port=NO_PORT, socket=path)


async def echoed(target: str) -> bytes:
    async with grpc.aio.insecure_channel(target) as channel:
        return await channel.unary_unary("/echo.Echo/Unary")(b"x", timeout=10)


async def test_a_call_through_a_socket_is_answered(wire, path):
    server = wire(echo_methods(), pytest.fail)

    assert await server.listen(at(path)) == NO_PORT
    assert await echoed(f"unix:{path}") == b"x"
    await server.close()


async def test_a_socket_and_a_port_are_served_together(wire, path):
    server = wire(echo_methods(), pytest.fail)
    port = await server.listen(Listening(socket=path))

    assert [await echoed(f"127.0.0.1:{port}"), await echoed(f"unix:{path}")] == [b"x", b"x"]
    await server.close()


async def test_owner_and_group_alone_may_connect(wire, path):
    server = wire({}, pytest.fail)
    await server.listen(at(path))

    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    await server.close()


async def test_the_file_goes_with_its_server(wire, path):
    server = wire({}, pytest.fail)
    await server.listen(at(path))
    await server.close()

    assert not path.exists()


async def test_a_socket_that_took_its_place_stays(path):
    server = Server({}, pytest.fail)  # grpc takes away whatever has the name
    await server.listen(at(path))
    path.rename(path.with_name("moved"))
    with bound(path):
        await server.close()

        assert path.is_socket()


async def test_a_socket_that_a_dead_process_left_is_replaced(wire, path):
    bound(path).close()
    server = wire({}, pytest.fail)

    await server.listen(at(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
    await server.close()


async def test_a_socket_that_is_served_stays_with_its_server(wire, path):
    with bound(path) as listener:
        listener.listen(1)

        server = wire({}, pytest.fail)
        with pytest.raises(OSError, match="in use"):
            await server.listen(at(path))
        await server.close()
        assert path.is_socket()


async def test_a_file_that_is_no_socket_is_not_removed(wire, path):
    path.write_text("keep")

    server = wire({}, pytest.fail)
    with pytest.raises(OSError, match="in use"):
        await server.listen(at(path))
    await server.close()
    assert path.read_text() == "keep"


async def test_a_folder_that_is_not_there_is_named(wire, tmp_path):
    path = tmp_path / "none" / "epp.sock"
    server = wire({}, pytest.fail)

    with pytest.raises(OSError, match="none") as raised:
        await server.listen(at(path))
    await server.close()
    assert raised.value.filename == str(path)


async def test_two_servers_share_a_port_when_both_say_so(wire):
    servers = [wire(echo_methods(), pytest.fail) for _ in range(2)]
    port = await servers[0].listen(Listening(reuse_port=True))

    assert await servers[1].listen(Listening(port=port, reuse_port=True)) == port
    await servers[0].close()
    assert await echoed(f"127.0.0.1:{port}") == b"x"
    await servers[1].close()


async def test_a_port_is_not_shared_unasked(wire):
    first, second = (wire({}, pytest.fail) for _ in range(2))
    port = await first.listen(Listening())

    with pytest.raises(OSError, match=r"listen|in use"):
        await second.listen(Listening(port=port))
    await asyncio.gather(first.close(), second.close())
