"""The exchange behind real Envoy: both request modes with each response mode, on both wires."""

import asyncio
import contextlib
import datetime as dt
import functools
import json
import re
import subprocess

import aiohttp
import pytest
import yaml
from aiohttp import web
from support.envoy import binary, envoy, free_port
from support.ext_proc import RecordingPath

from epp.domain.headers import HeaderChanges
from epp.domain.response import Ending
from epp.errors import NoEndpoints
from epp.wire.budget import ByteBudget
from epp.wire.grpcio_shell import GrpcioServer
from epp.wire.session import PROCESS, Process
from epp.wire.sockets import Listening, Server
from epp.wire.tls import SelfSigned, TlsContexts, grpcio_credentials, self_signed

pytestmark = pytest.mark.envoy

DUPLEX, BUFFERED, NONE = "FULL_DUPLEX_STREAMED", "BUFFERED", "NONE"
RESPONSES = {
    "full": {"response_body_mode": DUPLEX, "response_trailer_mode": "SEND"},
    "watch": {"response_body_mode": NONE, "response_trailer_mode": "SEND"},
    "forget": {"response_body_mode": NONE, "response_trailer_mode": "SKIP"},
    "full, buffered": {"response_body_mode": BUFFERED, "response_trailer_mode": "SEND"},
}
TIMEOUT = 20
PAIR = self_signed(dt.datetime.now(dt.UTC))


def typed(name, **fields):
    """An Envoy `Any` of a v3 message."""
    return {"@type": f"type.googleapis.com/envoy.{name}", **fields}


def bootstrap(picker_port, request_mode, response):
    """One listener, ext_proc in front, the destination header deciding where a request goes."""
    processing = {
        "request_header_mode": "SEND",
        "request_body_mode": request_mode,
        "request_trailer_mode": "SEND",
        "response_header_mode": "SEND",
        **RESPONSES[response],
    }
    ext_proc = typed(
        "extensions.filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service={"envoy_grpc": {"cluster_name": "picker"}, "timeout": "10s"},
        processing_mode=processing,
        message_timeout="15s",
        max_message_timeout="20s",
    )
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        http_protocol_options={"enable_trailers": True},
        route_config={
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "pool"}}],
                }
            ]
        },
        http_filters=[
            {"name": "ext_proc", "typed_config": ext_proc},
            {
                "name": "router",
                "typed_config": typed("extensions.filters.http.router.v3.Router"),
            },
        ],
    )
    return {
        "admin": {"address": address(0)},
        "static_resources": {
            "listeners": [
                {
                    "name": "in",
                    "address": address(0),
                    "per_connection_buffer_limit_bytes": 8 << 20,
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [picker_cluster(picker_port), pool_cluster()],
        },
    }


def picker_cluster(port):
    upstream = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options": {}},
    )
    tls = typed(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context={"alpn_protocols": ["h2"]},
    )
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address(port)}}]}
    return {
        "name": "picker",
        "type": "STATIC",
        "transport_socket": {"name": "tls", "typed_config": tls},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": upstream
        },
        "load_assignment": {"cluster_name": "picker", "endpoints": [endpoint]},
    }


def pool_cluster():
    return {
        "name": "pool",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {
            "use_http_header": True,
            "http_header_name": "x-gateway-destination-endpoint",
        },
    }


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class Gateway:
    """A running Envoy with a picker behind and one model server; `path` decides."""

    def __init__(self, url, path, process, backend):
        self.url = url
        self.path = path
        self.process = process
        self.backend = backend
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))

    async def post(self, body, path="/v1/chat/completions", **options):
        async with self.http.post(self.url + path, data=body, **options) as response:
            return response.status, await response.read(), response.headers

    async def ended(self, count=1):
        """The endings of all tickets, once there are `count` and nothing is left open."""
        async with asyncio.timeout(TIMEOUT):
            while self.process.open_streams or len(self.endings) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert self.process.budget.held == 0
        return self.endings

    @property
    def endings(self):
        return [ending for ticket in self.path.tickets for ending in ticket.endings]


class Backend:
    """A model server that says what it was sent."""

    def __init__(self):
        self.release = asyncio.Event()
        self.address = ""

    async def echo(self, request):
        body = await request.read()
        answer = {
            "path": request.path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "size": len(body),
            "body": body[:200].decode(),
        }
        return web.json_response(answer, status=int(request.headers.get("x-status", 200)))

    async def stream(self, request):
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await self.release.wait()
        await response.write(b"data: 2\n\n")
        return response


@contextlib.asynccontextmanager
async def backend():
    server = Backend()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/stream", server.stream)
    app.router.add_route("*", "/{tail:.*}", server.echo)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def picker(wire, process):
    methods = {PROCESS: process}
    faults: list[Exception] = []
    if wire == "grpcio":
        credentials = grpcio_credentials(SelfSigned(PAIR))
        server = GrpcioServer(methods, faults.append, credentials=credentials)
    else:
        server = Server(methods, faults.append, tls=TlsContexts(SelfSigned(PAIR)))
    port = await server.listen(Listening())
    try:
        yield server, port
    finally:
        await server.close()
    assert faults == []


@contextlib.asynccontextmanager
async def gateway(wire, request_mode, response, **ticket):
    """All of it, with a path that sends everything to the one backend."""
    async with backend() as server:
        path = RecordingPath(lambda intake: path.ticket(destination=server.address, **ticket))
        process = Process(path, budget=ByteBudget(64 << 20))
        async with (
            picker(wire, process) as (shell, port),
            envoy(yaml.safe_dump(bootstrap(port, request_mode, response))) as running,
        ):
            found = Gateway(running.url, path, process, server)
            found.shell = shell
            async with found.http:
                yield found


@functools.cache
def envoy_version():
    """Major and minor of the Envoy under test."""
    said = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True)
    major, minor = re.search(r"/(\d+)\.(\d+)\.\d+/", said.stdout).groups()
    return int(major), int(minor)


@pytest.fixture(params=["grpcio", "own"])
def wire(request):
    return request.param


@pytest.fixture(params=[DUPLEX, BUFFERED], ids=["duplex", "buffered"])
def request_mode(request):
    return request.param


@pytest.fixture(params=list(RESPONSES))
def response(request):
    return request.param


async def chunked(*pieces):
    for piece in pieces:
        yield piece


async def test_requests_of_every_shape_arrive_whole(wire, request_mode, response):
    shapes = {
        "small": b'{"model": "m"}',
        "empty": b"",
        "a megabyte": b"x" * (1 << 20),
        "chunked": chunked(b"a" * 10, b"b" * 100_000, b"c"),
    }
    async with gateway(wire, request_mode, response) as gw:
        answers = {name: await gw.post(body) for name, body in shapes.items()}
        async with gw.http.get(gw.url + "/v1/models") as listed:
            answers["get"] = (listed.status, await listed.read(), None)
        endings = await gw.ended(len(answers))

    seen = {name: (status, json.loads(body)["size"]) for name, (status, body, _) in answers.items()}
    assert seen == {
        "small": (200, 14),
        "empty": (200, 0),
        "a megabyte": (200, 1 << 20),
        "chunked": (200, 100_011),
        "get": (200, 0),
    }
    assert set(endings) == {Ending.COMPLETE}


async def test_a_request_that_ends_by_trailers_is_answered(wire, request_mode):
    async with gateway(wire, request_mode, "full") as gw:
        reader, writer = await asyncio.open_connection(*gw.url[7:].split(":"))
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
            b"transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
            b"4\r\nabcd\r\n0\r\nx-sum: 1\r\n\r\n"
        )
        async with asyncio.timeout(TIMEOUT):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        await gw.ended()

    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"body": "abcd"' in answer


async def test_headers_a_client_must_not_set_do_not_arrive(wire, request_mode):
    forged = {
        "x-gateway-destination-endpoint": "127.0.0.1:1",
        "x-prefiller-host-port": "127.0.0.1:1",
        "x-llm-d-inference-objective": "gold",
    }
    async with gateway(wire, request_mode, "watch") as gw:
        status, body, _ = await gw.post(b"{}", headers=forged)
        await gw.ended()
        address = gw.backend.address

    seen = json.loads(body)["headers"]
    assert status == 200
    assert seen["x-gateway-destination-endpoint"] == address
    assert not {"x-prefiller-host-port", "x-llm-d-inference-objective"} & seen.keys()
    assert seen["x-request-id"]


async def test_a_changed_body_arrives_with_its_length(wire, request_mode):
    async with gateway(wire, request_mode, "watch", body=b'{"model": "other"}') as gw:
        status, body, _ = await gw.post(b'{"model": "m"}')
        await gw.ended()

    seen = json.loads(body)
    assert (status, seen["body"]) == (200, '{"model": "other"}')
    assert seen["headers"].get("content-length", "18") == "18"


@pytest.mark.parametrize("response", ["full", "full, buffered"])
async def test_a_changed_response_arrives_whole(wire, request_mode, response):
    held = bytearray()

    def hold(data, end):
        held.extend(data)
        return bytes(held) + b" and more" if end else b""

    async with gateway(wire, request_mode, response) as gw:
        answer = gw.path._answer

        def decide(intake):
            ticket = answer(intake)
            ticket.through = hold
            ticket.response_changes = HeaderChanges(set={"x-epp-endpoint": "here"})
            return ticket

        gw.path._answer = decide
        status, body, headers = await gw.post(b"{}")
        await gw.ended()

    assert (status, headers.get("x-epp-endpoint")) == (200, "here")
    assert body.endswith(b"} and more")


async def test_a_refusal_reaches_the_client(wire, request_mode):
    async with gateway(wire, request_mode, "watch") as gw:

        def refuse(intake):
            raise NoEndpoints("no endpoint is ready")

        gw.path._answer = refuse
        status, body, headers = await gw.post(b"{}")
        await gw.ended(0)

    assert (status, headers["retry-after"]) == (503, "1")
    assert headers["x-llm-d-request-dropped-reason"] == "no-endpoints"
    assert json.loads(body)["error"]["message"] == "no endpoint is ready"


@pytest.mark.parametrize("response", ["full", "watch"])
async def test_status_of_a_failing_backend_is_seen(wire, request_mode, response):
    async with gateway(wire, request_mode, response) as gw:
        status, _, _ = await gw.post(b"{}", headers={"x-status": "500"})

        assert status == 500
        assert await gw.ended() == [Ending.UPSTREAM_ERROR]


@pytest.mark.parametrize("response", ["full", "watch"])
async def test_a_client_that_leaves_in_mid_answer_ends_its_request(wire, request_mode, response):
    async with gateway(wire, request_mode, response) as gw:
        async with gw.http.post(gw.url + "/stream", data=b"{}") as answer:
            await answer.content.readany()
            answer.close()
        endings = await gw.ended()
        gw.backend.release.set()

    expected = Ending.CLIENT_GONE if response == "full" else Ending.COMPLETE
    assert endings == [expected]


async def test_a_client_that_leaves_while_it_waits_withdraws_its_request(wire, request_mode):
    waiting = asyncio.get_running_loop().create_future()
    async with gateway(wire, request_mode, "watch") as gw:
        gw.path._answer = lambda intake: waiting
        post = asyncio.ensure_future(gw.post(b"{}"))
        async with asyncio.timeout(TIMEOUT):
            while not gw.path.intakes:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        post.cancel()
        await gw.ended(0)

    assert waiting.cancelled()


@pytest.mark.parametrize("response", ["full", "watch"])
async def test_a_drain_leaves_streaming_answers_alone(wire, request_mode, response):
    async with gateway(wire, request_mode, response) as gw:
        async with gw.http.post(gw.url + "/stream", data=b"{}") as answer:
            first = await answer.content.readany()
            await gw.shell.drain(asyncio.get_running_loop().time() + 0.2)
            gw.backend.release.set()
            rest = await answer.read()
        endings = await gw.ended()

    assert (first, rest) == (b"data: 1\n\n", b"data: 2\n\n")
    assert endings == [Ending.DRAINED]


async def test_a_gateway_that_hides_bodies_is_served(wire):
    async with gateway(wire, NONE, "watch") as gw:
        status, body, _ = await gw.post(b'{"model": "m"}')
        await gw.ended()

    (intake,) = gw.path.intakes
    assert (status, json.loads(body)["size"]) == (200, 14)
    assert (intake.body, intake.body_seen) == (b"", False)


@pytest.mark.parametrize("response", ["full", "watch"])
async def test_an_endpoint_that_is_not_there_is_an_upstream_error(wire, request_mode, response):
    async with gateway(wire, request_mode, response) as gw:
        gw.backend.address = f"127.0.0.1:{free_port()}"
        status, _, _ = await gw.post(b"{}")
        endings = await gw.ended()

    told = envoy_version() >= (1, 37)  # 1.36 keeps its own replies to itself
    assert status == 503
    assert endings == [Ending.UPSTREAM_ERROR if told else Ending.CLIENT_GONE]


async def test_a_mode_that_cannot_be_served_ends_in_an_error_not_a_hang(wire):
    async with gateway(wire, "STREAMED", "watch") as gw:
        status, _, _ = await gw.post(b"{}")

        assert status == 500
        assert await gw.ended(0) == []
