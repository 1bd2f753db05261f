"""The ports are given the limits of the options, and listen where they say."""

import grpc
import pytest
import structlog
from support.ext_proc import RecordingPath

from epp.app.serving import Serving
from epp.config.options import RunOptions
from epp.errors import CannotListen
from epp.wire.budget import ByteBudget
from epp.wire.readiness import Readiness


def serving_with(**options) -> Serving:
    return Serving(
        RunOptions(**options),
        RecordingPath(),
        Readiness(),
        ByteBudget(1 << 30),
        structlog.get_logger(),
    )


async def healthy(target: str) -> bool:
    async with grpc.aio.insecure_channel(target) as channel:
        answer = await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
    return bool(answer)


@pytest.mark.parametrize(
    ("body", "held"), [(1 << 20, 8 << 20), (64 << 20, 256 << 20), (64 << 20, 1 << 30)]
)
async def test_the_byte_budget_is_full_before_a_connection_is_cut(body, held):
    serving = serving_with(secure_serving=False, max_body_bytes=body, max_held_bytes=held)

    assert serving.ext_proc.limits.max_message_size > body
    assert serving.ext_proc.limits.max_assembling >= held + body


async def test_a_limit_of_the_command_line_reaches_the_connections():
    serving = serving_with(secure_serving=False, wire_limits=("max_pings=7", "idle_timeout=1m"))

    assert serving.ext_proc.limits.max_pings == 7
    assert serving.ext_proc.limits.idle_timeout == 60.0


@pytest.mark.parametrize("wire", ["http2", "grpcio"])
async def test_the_socket_is_served_in_the_clear_beside_an_encrypted_port(wire, tmp_path):
    socket = tmp_path / "epp.sock"
    serving = serving_with(
        wire=wire, grpc_socket=str(socket), grpc_host="127.0.0.1", grpc_port=0, grpc_health_port=0
    )
    ports = await serving.start()

    assert ports.ext_proc > 0
    assert await healthy(f"unix:{socket}")
    await serving.drain(1.0)
    assert not socket.exists()


async def test_the_socket_may_be_all_there_is(tmp_path):
    socket = tmp_path / "epp.sock"
    serving = serving_with(
        grpc_socket=str(socket), grpc_host="127.0.0.1", grpc_port=-1, grpc_health_port=0
    )

    assert (await serving.start()).ext_proc == -1
    assert await healthy(f"unix:{socket}")
    await serving.close()


async def test_a_socket_that_cannot_be_had_is_named(tmp_path):
    (tmp_path / "notes").write_text("keep")
    serving = serving_with(
        grpc_socket=str(tmp_path / "notes"), grpc_host="127.0.0.1", grpc_port=0, grpc_health_port=0
    )

    with pytest.raises(CannotListen, match=r"--grpc-socket .*/notes: cannot listen: .* in use"):
        await serving.start()


async def test_pickers_that_say_so_share_the_port_and_not_the_one_for_probes():
    options = {"grpc_host": "127.0.0.1", "grpc_reuse_port": True, "grpc_health_port": 0}
    first = serving_with(grpc_port=0, **options)
    ports = await first.start()
    second = serving_with(grpc_port=ports.ext_proc, **options)

    others = await second.start()

    assert others.ext_proc == ports.ext_proc
    assert others.health != ports.health
    await first.close()
    await second.close()
