"""A real Envoy asks a real picker through a Unix socket, as `epp envoy-config` prints it."""

import json

import aiohttp
import pytest
import yaml
from click.testing import CliRunner
from support.backends import backends
from support.envoy import envoy
from support.picker import picker

from epp.cli.envoy_config import command
from epp.domain.headers import DESTINATION

pytestmark = pytest.mark.envoy


def printed(*args) -> str:
    result = CliRunner().invoke(command, list(args), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("wire", ["http2", "grpcio"])
async def test_requests_are_placed_through_the_socket_alone(wire, tmp_path):
    socket, endpoints = tmp_path / "epp.sock", tmp_path / "endpoints.yaml"
    body = json.dumps({"model": "m", "prompt": "x" * 100_000}).encode()
    async with backends("a") as (backend,):
        listed = [{"name": "a", "address": "127.0.0.1", "port": str(backend.port)}]
        endpoints.write_text(yaml.safe_dump({"endpoints": listed}))
        config = printed(f"--ext-proc=unix:{socket}", f"--endpoints={endpoints}", "--fail-closed")
        async with (
            picker(
                f"--endpoints={endpoints}",
                f"--wire={wire}",
                f"--grpc-socket={socket}",
                "--grpc-port=-1",
                "--metrics-endpoint-auth=false",
            ) as running,
            envoy(config) as gateway,
            aiohttp.ClientSession() as client,
            client.post(gateway.url + "/v1/completions", data=body) as answer,
        ):
            said = await answer.json(content_type=None)

    assert running.ports["grpc"] == -1
    assert answer.status == 200
    assert said["headers"][DESTINATION] == f"127.0.0.1:{backend.port}"


def test_a_socket_is_never_spoken_to_in_tls():
    tree = yaml.safe_load(printed("--ext-proc=unix:/run/epp.sock", "--lb=original-dst"))
    [cluster] = [c for c in tree["static_resources"]["clusters"] if "health_checks" in c]

    assert cluster["type"] == "STATIC"
    assert "transport_socket" not in cluster


def test_sockets_and_ports_do_not_mix():
    args = ["--ext-proc=unix:/run/epp.sock", "--ext-proc=127.0.0.1:9002", "--lb=original-dst"]

    result = CliRunner().invoke(command, args)

    assert result.exit_code == 2
    assert "not both" in result.output
