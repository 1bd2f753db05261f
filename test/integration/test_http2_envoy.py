"""Envoy as the client of our wire: a gRPC proxy before the echo service."""

from __future__ import annotations

import asyncio
import json

import grpc.aio
import pytest
from support.envoy import envoy
from support.wire_echo import EchoHandler, Recorded, echo_methods

from epp.wire.calls import Cancellation
from epp.wire.limits import Limits
from epp.wire.sockets import Listening, Server

pytestmark = pytest.mark.envoy

HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


EXT_PROC = {
    "name": "ext_proc",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": "echo"}},
    },
}


def proxy_to(port: int, *filters: dict) -> str:
    """An Envoy configuration, as JSON, that passes everything on to `port` over HTTP/2."""
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "HTTP2",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "echo", "timeout": "0s"}}
                    ],
                }
            ]
        },
        "http_filters": [
            *filters,
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            },
        ],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    anywhere = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    tree = {
        "admin": {"address": anywhere},
        "static_resources": {
            "listeners": [
                {
                    "address": anywhere,
                    "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "echo",
                    "type": "STATIC",
                    "typed_extension_protocol_options": HTTP2,
                    "load_assignment": {"cluster_name": "echo", "endpoints": endpoints},
                }
            ],
        },
    }
    return json.dumps(tree)


@pytest.fixture
async def proxied():
    methods, faults = echo_methods(), []
    server = Server(methods, faults.append)
    port = await server.listen(Listening())
    async with envoy(proxy_to(port)) as running:
        options = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(running.address, options=options) as channel:
            yield server, methods, channel
    await server.close()
    assert faults == []


async def test_calls_pass_through_envoy_at_once(proxied):
    server, _, channel = proxied
    echo = channel.unary_unary("/echo.Echo/Unary")
    bodies = [bytes((n,)) * (n * 1_000) for n in range(64)]

    assert await asyncio.gather(*(echo(body) for body in bodies)) == bodies
    assert server.counters.protocol_faults == 0


async def test_large_messages_pass_through_envoy(proxied):
    _, _, channel = proxied
    body = bytes(range(256)) * 30_000

    assert await channel.unary_unary("/echo.Echo/Unary")(body) == body


async def test_a_bidi_call_passes_through_envoy(proxied):
    _, _, channel = proxied
    call = channel.stream_stream("/echo.Echo/Bidi")()
    for turn in range(20):
        await call.write(bytes((turn,)) * 5_000)
        assert await call.read() == bytes((turn,)) * 5_000
    await call.done_writing()

    assert await call.read() is grpc.aio.EOF


async def test_a_client_that_leaves_envoy_cancels_its_handler(proxied):
    server, methods, channel = proxied
    silent = methods["/echo.Echo/Silent"]
    call = channel.stream_stream("/echo.Echo/Silent")()
    await call.write(b"x")
    await _until(lambda: silent.handlers and silent.last.messages)
    call.cancel()

    await _until(lambda: silent.last.cancelled_for is Cancellation.RESET)
    assert server.counters.floods == 0


class Nothing(EchoHandler):
    """Ends its call well at the first message: Envoy goes on without a change."""

    def message(self, data):
        self.messages.append(data)
        self.call.end()


async def test_ext_proc_streams_are_no_attack_and_their_blocks_are_remembered():
    processor = Recorded(Nothing)
    path = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
    limits = Limits(max_resets=0)
    server = Server({**echo_methods(), path: processor}, _raise, limits=limits)
    port = await server.listen(Listening())
    async with (
        envoy(proxy_to(port, EXT_PROC)) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        echo = channel.unary_unary("/echo.Echo/Unary")
        for _ in range(10):
            assert await echo(b"x") == b"x"
    counters = server.counters
    await server.close()

    assert len(processor.handlers) == 10
    assert all(handler.messages for handler in processor.handlers)
    assert (counters.floods, counters.protocol_faults) == (0, 0)
    assert counters.blocks_remembered >= 5


def _raise(error: Exception) -> None:
    raise error


async def test_a_drain_moves_envoy_on_without_an_error(proxied):
    server, _, channel = proxied
    call = channel.stream_stream("/echo.Echo/Bidi")()
    await call.write(b"before")
    await call.read()
    draining = asyncio.create_task(server.drain(server.loop.time() + 5))
    await asyncio.sleep(0.2)
    await call.write(b"during")

    assert await call.read() == b"during"
    await call.done_writing()
    assert await call.code() == grpc.StatusCode.OK
    await asyncio.wait_for(draining, 4)


async def _until(holds) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
