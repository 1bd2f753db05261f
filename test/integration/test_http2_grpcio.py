"""A grpcio client against the echo service on our sockets: plain, TLS, Unix; asyncio and uvloop."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl

import grpc
import grpc.aio
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.wire_echo import echo_methods

from epp.wire.calls import Cancellation
from epp.wire.frames import PREFACE
from epp.wire.limits import Limits
from epp.wire.listeners import NO_PORT
from epp.wire.sockets import Listening, Server

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Certificate:
    """A self-signed certificate for localhost, as the server and the client need it."""

    def __init__(self, folder, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
            .sign(key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path = folder / f"{name}.pem"
        path.write_bytes(private + self.pem)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.set_alpn_protocols(["h2"])
        self.context.load_cert_chain(path)


class Served:
    """An echo server and how to reach it."""

    def __init__(self, server: Server, target: str, certificate: Certificate | None) -> None:
        self.server = server
        self.target = target
        self.certificate = certificate

    def channel(self) -> grpc.aio.Channel:
        if self.certificate is None:
            return grpc.aio.insecure_channel(self.target, options=UNLIMITED)
        credentials = grpc.ssl_channel_credentials(self.certificate.pem)
        return grpc.aio.secure_channel(self.target, credentials, options=UNLIMITED)


@pytest.fixture(params=["plain", "tls", "unix"])
async def served(request, tmp_path):
    methods = echo_methods()
    faults: list[Exception] = []
    certificate = Certificate(tmp_path, "first") if request.param == "tls" else None
    server = Server(
        methods,
        faults.append,
        limits=Limits(max_message_size=64 << 20),
        tls=(lambda: certificate.context) if certificate else None,
    )
    if request.param == "unix":
        await server.listen(Listening(port=NO_PORT, socket=tmp_path / "epp.sock"))
        target = f"unix:{tmp_path}/epp.sock"
    else:
        target = f"localhost:{await server.listen(Listening())}"
    served = Served(server, target, certificate)
    served.methods = methods
    served.faults = faults
    yield served
    await server.close()
    assert server.open_connections == 0


async def test_unary_calls_are_answered(served):
    async with served.channel() as channel:
        echo = channel.unary_unary("/echo.Echo/Unary")

        assert [await echo(body) for body in (b"", b"hello", bytes(100_000))] == [
            b"",
            b"hello",
            bytes(100_000),
        ]


async def test_large_messages_pass_both_ways(served):
    async with served.channel() as channel:
        body = bytes(range(256)) * 80_000

        assert await channel.unary_unary("/echo.Echo/Unary")(body) == body


async def test_a_server_stream_arrives_in_order(served):
    async with served.channel() as channel:
        call = channel.unary_stream("/echo.Echo/Repeat")(bytes((200,)) + bytes(10_000))

        assert [len(reply) async for reply in call] == [10_001] * 200
        assert await call.code() == grpc.StatusCode.OK


async def test_a_bidi_call_talks_back_and_forth(served):
    async with served.channel() as channel:
        call = channel.stream_stream("/echo.Echo/Bidi")()
        for turn in range(20):
            await call.write(bytes((turn,)) * 1_000)
            assert await call.read() == bytes((turn,)) * 1_000
        await call.done_writing()

        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK


async def test_many_calls_at_once_do_not_mix(served):
    async with served.channel() as channel:
        echo = channel.unary_unary("/echo.Echo/Unary")
        bodies = [bytes((n % 256,)) * (n * 37 % 5_000) for n in range(300)]

        assert await asyncio.gather(*(echo(body) for body in bodies)) == bodies


async def test_a_deadline_is_met_on_both_sides(served):
    async with served.channel() as channel:
        call = channel.stream_stream("/echo.Echo/Silent")(timeout=0.3)
        await call.write(b"x")

        assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        silent = served.methods["/echo.Echo/Silent"].last
        await until(lambda: silent.cancelled_for is not None)
        assert silent.cancelled_for in (Cancellation.DEADLINE, Cancellation.RESET)


async def test_a_cancelled_call_cancels_its_handler(served):
    async with served.channel() as channel:
        call = channel.stream_stream("/echo.Echo/Silent")()
        await call.write(b"x")
        silent = served.methods["/echo.Echo/Silent"]
        await until(lambda: silent.handlers and silent.last.messages)
        call.cancel()

        await until(lambda: silent.last.cancelled_for is Cancellation.RESET)


async def test_a_client_that_goes_away_cancels_its_handlers(served):
    channel = served.channel()
    call = channel.stream_stream("/echo.Echo/Silent")()
    await call.write(b"x")
    silent = served.methods["/echo.Echo/Silent"]
    await until(lambda: silent.handlers and silent.last.messages)
    await channel.close()

    await until(lambda: silent.last.cancelled_for is not None)


async def test_a_status_with_text_and_metadata_arrives(served):
    async with served.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/echo.Echo/Refuse")(b"")

        assert failed.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert failed.value.details() == "not today: 100% née"


async def test_metadata_arrives_as_text_and_bytes(served):
    async with served.channel() as channel:
        sent = (("x-text", "b"), ("x-bin", b"\x00\xff"))
        seen = await channel.unary_unary("/echo.Echo/Metadata")(b"", metadata=sent)

        assert b"('x-bin', b'\\x00\\xff'), ('x-text', 'b')" in seen


@pytest.mark.parametrize(
    ("path", "options", "code"),
    [
        pytest.param("/echo.Echo/No", {}, grpc.StatusCode.UNIMPLEMENTED, id="unknown method"),
        pytest.param("/echo.Echo/Fail", {}, grpc.StatusCode.UNKNOWN, id="handler fails"),
        pytest.param(
            "/echo.Echo/Unary",
            {"compression": grpc.Compression.Gzip},
            grpc.StatusCode.UNIMPLEMENTED,
            id="compressed",
        ),
    ],
)
async def test_a_failed_call_says_why(served, path, options, code):
    async with served.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary(path)(b"x" * 2_000, **options)

        assert failed.value.code() == code


async def test_a_reader_that_waits_loses_nothing(served):
    async with served.channel() as channel:
        call = channel.unary_stream("/echo.Echo/Repeat")(bytes((100,)) + bytes(100_000))
        await asyncio.sleep(0.3)

        assert [len(reply) async for reply in call] == [100_001] * 100


async def test_a_drain_lets_open_calls_end_and_takes_no_new_ones(served):
    async with served.channel() as channel:
        call = channel.stream_stream("/echo.Echo/Bidi")()
        await call.write(b"before")
        await call.read()
        draining = asyncio.create_task(served.server.drain(served.server.loop.time() + 5))
        await asyncio.sleep(0.1)
        await call.write(b"during")

        assert await call.read() == b"during"
        await call.done_writing()
        assert await call.code() == grpc.StatusCode.OK
        await asyncio.wait_for(draining, 4)


async def test_at_the_drains_deadline_calls_end_well(served):
    async with served.channel() as channel:
        call = channel.stream_stream("/echo.Echo/Bidi")()
        await call.write(b"before")
        await call.read()
        await served.server.drain(served.server.loop.time() + 0.2)

        assert await call.code() == grpc.StatusCode.OK


async def test_a_reloaded_certificate_serves_new_connections_and_drops_none(tmp_path):
    certificates = [Certificate(tmp_path, "old"), Certificate(tmp_path, "new")]
    current = [certificates[0]]
    server = Server(echo_methods(), _raise, tls=lambda: current[0].context)
    target = f"localhost:{await server.listen(Listening())}"
    first, second = (Served(server, target, certificate) for certificate in certificates)
    async with first.channel() as old, second.channel() as new:
        assert await old.unary_unary("/echo.Echo/Unary")(b"1") == b"1"
        current[0] = certificates[1]

        assert await new.unary_unary("/echo.Echo/Unary")(b"2") == b"2"
        assert await old.unary_unary("/echo.Echo/Unary")(b"3") == b"3"
        assert server.open_connections == 2
    await server.close()


async def test_a_certificate_that_cannot_be_had_costs_one_connection(tmp_path):
    certificate = Certificate(tmp_path, "late")
    faults = []
    answers = iter([None, certificate.context])

    def provide():
        context = next(answers)
        if context is None:
            raise LookupError("no certificate yet")
        return context

    server = Server(echo_methods(), faults.append, tls=provide)
    port = await server.listen(Listening())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    writer.close()
    async with Served(server, f"localhost:{port}", certificate).channel() as channel:
        assert await channel.unary_unary("/echo.Echo/Unary")(b"x") == b"x"
    await server.close()

    assert isinstance(faults[0], LookupError)
    assert server.counters.handshakes_failed == 1


async def test_a_client_without_tls_fails_its_handshake_alone(tmp_path):
    certificate = Certificate(tmp_path, "secure")
    server = Server(echo_methods(), _raise, tls=lambda: certificate.context)
    port = await server.listen(Listening())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE)
    await reader.read()
    writer.close()

    await until(lambda: server.counters.handshakes_failed == 1)
    await server.close()


class TestSockets:
    @pytest.fixture
    async def listening(self):
        limits = Limits(max_connections=2, handshake_timeout=0.3, stall_timeout=0.5)
        server = Server(echo_methods(), _raise, limits=limits)
        port = await server.listen(Listening())
        yield server, port
        await server.close()

    async def test_a_silent_connection_is_closed(self, listening):
        server, port = listening
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = await asyncio.wait_for(reader.read(), 3)
        writer.close()

        assert b"no SETTINGS in time" in data
        assert server.counters.handshake_timeouts == 1

    async def test_connections_over_the_limit_are_closed_at_once(self, listening):
        server, port = listening
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(lambda: server.open_connections == 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        assert await asyncio.wait_for(reader.read(), 3) == b""
        assert server.counters.connections_refused == 1
        for _, open_writer in [*opened, (reader, writer)]:
            open_writer.close()

    async def test_a_client_that_never_reads_is_cut(self, listening):
        server, port = listening
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.transport.pause_reading()
        writer.write(PREFACE + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        flood = bytes((0, 0, 8, 6, 0, 0, 0, 0, 0)) + bytes(8)
        await until(lambda: server.open_connections == 1)
        session = next(iter(server._sessions))
        session.connection._meters._pings._most = 10**9
        writer.write(flood * 1_000_000)

        await until(lambda: server.counters.stalls == 1, 10)
        writer.transport.abort()

    async def test_one_port_can_be_shared_by_processes(self):
        first, second = (Server(echo_methods(), _raise) for _ in range(2))
        port = await first.listen(Listening(reuse_port=True))

        assert await second.listen(Listening(port=port, reuse_port=True)) == port
        await first.close()
        await second.close()

    async def test_ipv6_is_served(self):
        server = Server(echo_methods(), _raise)
        port = await server.listen(Listening(host="::1"))
        async with grpc.aio.insecure_channel(f"[::1]:{port}") as channel:
            assert await channel.unary_unary("/echo.Echo/Unary")(b"6") == b"6"
        await server.close()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_the_shell_runs_on_uvloop(secure, tmp_path):
    certificate = Certificate(tmp_path, "uv") if secure else None

    async def talk() -> list[bytes]:
        tls = (lambda: certificate.context) if certificate else None
        server = Server(echo_methods(), _raise, tls=tls)
        target = f"localhost:{await server.listen(Listening())}"
        async with Served(server, target, certificate).channel() as channel:
            echo = channel.unary_unary("/echo.Echo/Unary")
            replies = await asyncio.gather(*(echo(bytes(n * 1_000)) for n in range(100)))
            stream = channel.unary_stream("/echo.Echo/Repeat")(bytes((50,)) + bytes(100_000))
            replies += [reply async for reply in stream]
        await server.drain(server.loop.time() + 2)
        return replies

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        replies = runner.run(talk())

    assert [len(reply) for reply in replies] == [n * 1_000 for n in range(100)] + [100_001] * 50


def _raise(error: Exception) -> None:
    raise error


async def until(holds, seconds: float = 3.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
