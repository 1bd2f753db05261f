"""Ranks behind one port of their host, through real Envoy."""

import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
import yaml
from support.backends import backends
from support.envoy import envoy
from support.picker import picker

from epp.cli.envoy_config import config_yaml
from epp.cli.envoy_template import Gateway

pytestmark = pytest.mark.envoy

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def configured(port):
    """Behind the front port `port` rank 1 is picked."""
    return json.dumps(
        {
            "apiVersion": "llm-d.ai/v1alpha1",
            "kind": "EndpointPickerConfig",
            "plugins": [
                {"type": "data-parallel-profile-handler", "parameters": {"primaryPort": port}},
                {"type": "label-selector-filter", "parameters": {"matchLabels": {"rank": "1"}}},
                {"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": 2}},
            ],
        }
    )


@asynccontextmanager
async def two_ranks(folder, request, response, balancing):
    """Envoy, a client, the picker, and the addresses of the front (rank 0) and of rank 1."""
    async with backends("front", "rank-1") as (front, rank):
        listed = [
            {"name": e.name, "address": "127.0.0.1", "port": str(e.port), "labels": {"rank": n}}
            for n, e in (("0", front), ("1", rank))
        ]
        path = folder / "endpoints.yaml"
        path.write_text(yaml.safe_dump({"endpoints": listed}))
        flags = (f"--endpoints={path}", "--secure-serving=false")
        async with picker(*flags, f"--config-text={configured(front.port)}") as running:
            gateway = Gateway(
                request=request,
                response=response,
                balancing=balancing,
                pickers=(running.address,),
                picker_tls=False,
                endpoints=tuple(("127.0.0.1", each.port) for each in (front, rank))
                if balancing == "override-host"
                else (),
                fail_open=False,
            )
            async with envoy(config_yaml(gateway)) as door, aiohttp.ClientSession() as client:
                yield door, client, running, [f"127.0.0.1:{e.port}" for e in (front, rank)]


@pytest.mark.parametrize(
    ("request_mode", "response_mode", "balancing"),
    [("buffered", "watch", "override-host"), ("duplex", "full", "original-dst")],
)
async def test_the_front_port_is_told_which_rank_was_picked(
    tmp_path, request_mode, response_mode, balancing
):
    async with two_ranks(tmp_path, request_mode, response_mode, balancing) as stand:
        door, client, running, (front, rank) = stand
        forged = {"x-data-parallel-host-port": "10.9.9.9:1"}
        async with client.post(door.url + CHAT, json=BODY, headers=forged) as answer:
            told = await answer.json()
        async with client.get(running.url("debug", "/debug/decisions")) as page:
            (record,) = (await page.json())["decisions"]

    assert told["who"] == "front"
    assert told["headers"]["x-data-parallel-host-port"] == rank
    assert record["destination"] == front
