"""gRPC callers through real Envoy: what is refused comes as a gRPC status with its message."""

import contextlib

import grpc
import pytest
import yaml
from support.envoy import envoy
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
async def without_endpoints(variant, folder):
    """A channel to Envoy before a picker that knows no endpoint."""
    path = folder / "endpoints.yaml"
    path.write_text(yaml.safe_dump({"endpoints": []}))
    async with (
        picker(f"--endpoints={path}", f"--config-text={CONFIG}") as running,
        envoy(config_yaml(gateway_of(variant, running, []))) as front,
        grpc.aio.insecure_channel(front.url.removeprefix("http://")) as channel,
    ):
        yield channel


@pytest.mark.parametrize(
    "variant",
    [Variant("buffered", "watch", "original-dst"), Variant("duplex", "full", "original-dst")],
    ids=str,
)
async def test_a_refusal_is_a_status_and_a_message(variant, tmp_path):
    async with without_endpoints(variant, tmp_path) as channel:
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
