"""A Unix socket is taken over from the dead and from nobody else."""

import socket

import pytest

from epp.wire.sockets import Server


def bound(path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    return listener


async def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path):
    bound(tmp_path / "epp.sock").close()
    server = Server({}, pytest.fail)

    await server.listen_unix(tmp_path / "epp.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(tmp_path / "epp.sock"))
    await server.close()


async def test_a_socket_that_is_served_stays_with_its_server(tmp_path):
    with bound(tmp_path / "epp.sock") as listener:
        listener.listen(1)

        server = Server({}, pytest.fail)
        with pytest.raises(OSError, match="in use"):
            await server.listen_unix(tmp_path / "epp.sock")
        await server.close()
        assert (tmp_path / "epp.sock").is_socket()


async def test_a_file_that_is_no_socket_is_not_removed(tmp_path):
    (tmp_path / "notes").write_text("keep")

    with pytest.raises(OSError, match="in use"):
        await Server({}, pytest.fail).listen_unix(tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "keep"
