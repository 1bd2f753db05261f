"""Large requests at once, more than may be held: they wait in Envoy and all are served."""

import asyncio
import io
import json

import aiohttp
import pytest
import yaml
from support.backends import backends
from support.envoy import envoy
from support.picker import picker

from epp.cli.envoy_config import config_yaml
from epp.cli.envoy_template import Gateway

pytestmark = pytest.mark.envoy

BODY = json.dumps({"model": "m", "prompt": "x" * 2_000_000}).encode()
AT_ONCE = 16


async def statuses(tmp_path, request_mode, *flags):
    endpoints = tmp_path / "endpoints.yaml"
    async with backends("a") as (backend,):
        listed = [{"name": "a", "address": "127.0.0.1", "port": str(backend.port)}]
        endpoints.write_text(yaml.safe_dump({"endpoints": listed}))
        async with picker(
            f"--endpoints={endpoints}",
            "--secure-serving=false",
            "--metrics-endpoint-auth=false",
            "--wire=http2",
            "--wire-limit=stream_window=64Ki",
            "--max-body-bytes=3Mi",
            "--max-held-bytes=12Mi",
            *flags,
        ) as running:
            config = config_yaml(
                Gateway(
                    request=request_mode,
                    pickers=(running.address,),
                    picker_tls=False,
                    endpoints=(("127.0.0.1", backend.port),),
                    fail_open=False,
                )
            )
            async with envoy(config) as gateway, aiohttp.ClientSession() as client:
                return await asyncio.gather(*(post(client, gateway) for _ in range(AT_ONCE)))


async def post(client, gateway) -> int:
    async with client.post(gateway.url + "/v1/completions", data=io.BytesIO(BODY)) as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize("request_mode", ["buffered", "duplex"])
async def test_all_are_served(request_mode, tmp_path):
    assert await statuses(tmp_path, request_mode) == [200] * AT_ONCE
