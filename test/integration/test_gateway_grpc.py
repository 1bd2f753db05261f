"""gRPC callers through real Envoy: what is refused comes as a gRPC status with its message."""

import asyncio
import contextlib

import aiohttp
import grpc
import pytest
import yaml
from support.envoy import envoy, free_port
from support.gateway import Variant, gateway_of
from support.picker import picker

from epp.cli.envoy_config import config_yaml
from epp.request.gen.vllm_engine_pb2 import GenerateRequest

pytestmark = pytest.mark.envoy

CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: vllmgrpc-parser
- type: queue-scorer
requestHandler: {parsers: [{pluginRef: vllmgrpc-parser}]}
"""
GENERATE = "/vllm.grpc.engine.VllmEngine/Generate"
CALL = GenerateRequest(tokenized={"input_ids": [1, 2, 3]}).SerializeToString()


@contextlib.asynccontextmanager
async def before(variant, folder, endpoints):
    """A channel to Envoy, and the picker behind it that knows these endpoints."""
    path = folder / "endpoints.yaml"
    path.write_text(yaml.safe_dump({"endpoints": endpoints}))
    async with (
        picker(f"--endpoints={path}", f"--config-text={CONFIG}") as running,
        envoy(config_yaml(gateway_of(variant, running, []))) as front,
        grpc.aio.insecure_channel(front.url.removeprefix("http://")) as channel,
    ):
        yield channel, running


async def ejected(running):
    """How many endpoints are kept out."""
    url = running.url("debug", "/debug/endpoints")
    async with aiohttp.ClientSession() as client, client.get(url) as page:
        return sum(row["ejected"] for row in (await page.json())["endpoints"])


@pytest.mark.parametrize(
    "variant",
    [Variant("buffered", "watch", "original-dst"), Variant("duplex", "full", "original-dst")],
    ids=str,
)
async def test_a_refusal_is_a_status_and_a_message(variant, tmp_path):
    async with before(variant, tmp_path, []) as (channel, _):
        told = {}
        for name, path, body in (
            ("no endpoint", GENERATE, CALL),
            ("no message", GENERATE, b"\xff\xff"),
            ("no parser", "/somebody.Elses/Method", CALL),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(path)(body, timeout=20)
            told[name] = refused.value.code(), refused.value.details()

    assert told["no endpoint"][0] is grpc.StatusCode.UNAVAILABLE
    assert "no endpoint of the pool is ready" in told["no endpoint"][1]
    assert told["no message"][0] is grpc.StatusCode.INVALID_ARGUMENT
    assert "not the protobuf message" in told["no message"][1]
    assert told["no parser"][0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "variant",
    [Variant("buffered", "watch", "original-dst"), Variant("duplex", "full", "original-dst")],
    ids=str,
)
async def test_endpoints_that_take_no_calls_are_kept_out(variant, tmp_path):
    dead = [
        {"name": name, "address": "127.0.0.1", "port": str(free_port())} for name in ("one", "two")
    ]
    async with before(variant, tmp_path, dead) as (channel, running):
        async with asyncio.timeout(30):
            while not await ejected(running):
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await channel.unary_unary(GENERATE)(CALL, timeout=20)
                assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
