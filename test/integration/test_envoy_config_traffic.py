"""Requests through a real Envoy and a real picker, as each printed configuration sends them."""

import json

import aiohttp
import pytest
import yaml
from support.backends import backends
from support.envoy import envoy
from support.h2_client import post
from support.picker import picker

from epp.cli.envoy_config import config_yaml
from epp.cli.envoy_template import Gateway
from epp.domain.headers import DESTINATION

pytestmark = pytest.mark.envoy

CHAT = "/v1/chat/completions"
QUIET = ("--secure-serving=false", "--metrics-endpoint-auth=false")


def chat(size: int = 10) -> bytes:
    message = {"role": "user", "content": "x" * size}
    return json.dumps({"model": "m", "messages": [message]}).encode()


@pytest.fixture
async def pool():
    async with backends("a", "b") as running:
        yield running


@pytest.fixture
async def picker_of(pool, tmp_path):
    path = tmp_path / "endpoints.yaml"
    listed = [{"name": each.name, "address": "127.0.0.1", "port": str(each.port)} for each in pool]
    path.write_text(yaml.safe_dump({"endpoints": listed}))
    async with picker(f"--endpoints={path}", *QUIET) as running:
        yield running


@pytest.fixture
async def client():
    async with aiohttp.ClientSession() as session:
        yield session


def gateway(pool, picker, **fields) -> str:
    fields = {"endpoints": tuple(("127.0.0.1", each.port) for each in pool), **fields}
    return config_yaml(Gateway(pickers=(picker.address,), picker_tls=False, **fields))


async def answer(client, url, **more):
    async with client.post(url + CHAT, data=chat(), **more) as reply:
        return reply.status, await reply.json(content_type=None) if reply.ok else None


@pytest.mark.parametrize("request_", ["buffered", "duplex"])
@pytest.mark.parametrize("balancing", ["override-host", "original-dst"])
async def test_the_endpoint_that_answers_is_the_one_picked(
    pool, picker_of, client, request_, balancing
):
    config = gateway(pool, picker_of, request=request_, balancing=balancing)

    async with envoy(config) as running:
        status, said = await answer(client, running.url)

    ports = {each.name: each.port for each in pool}
    assert status == 200
    assert said["headers"][DESTINATION] == f"127.0.0.1:{ports[said['who']]}"


async def test_a_client_can_neither_steer_nor_wish(pool, picker_of, client):
    sent = {DESTINATION: "127.0.0.1:1", "x-prefiller-host-port": "1.2.3.4:5", "x-mine": "kept"}

    async with envoy(gateway(pool, picker_of)) as running:
        status, said = await answer(client, running.url, headers=sent)

    assert status == 200
    assert said["headers"][DESTINATION] != "127.0.0.1:1"
    assert "x-prefiller-host-port" not in said["headers"]
    assert said["headers"]["x-mine"] == "kept"


@pytest.mark.parametrize("request_", ["buffered", "duplex"])
async def test_a_large_body_of_an_http2_client_arrives_whole(pool, picker_of, request_):
    async with envoy(gateway(pool, picker_of, request=request_)) as running:
        host, port = running.address.split(":")
        status, said = await post(host, int(port), CHAT, chat(3_000_000))

    assert status == 200
    assert json.loads(said)["bytes"] == len(chat(3_000_000))


@pytest.mark.parametrize("response", ["full", "watch", "forget"])
@pytest.mark.parametrize("request_", ["buffered", "duplex"])
async def test_a_body_ended_by_trailers_is_answered(pool, picker_of, request_, response):
    config = gateway(pool, picker_of, request=request_, response=response, fail_open=False)

    async with envoy(config) as running:
        host, port = running.address.split(":")
        status, said = await post(host, int(port), CHAT, chat(), trailers=True)

    assert status == 200
    assert json.loads(said)["bytes"] == len(chat())


async def test_an_endpoint_nobody_listens_on_costs_no_request(pool, picker_of, client):
    dead = pool[0]
    async with envoy(gateway(pool, picker_of)) as running:
        await dead.stop()
        answers = [await answer(client, running.url) for _ in range(10)]

    assert {(status, said["who"]) for status, said in answers} == {(200, pool[1].name)}


async def test_a_buffered_body_over_the_limit_is_too_large(pool, picker_of, client):
    async with envoy(gateway(pool, picker_of, body_bytes=100_000)) as running:
        reply = await client.post(running.url + CHAT, data=chat(200_000))
        reply.release()

    assert reply.status == 413


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),
        ({"fail_open": False}, 503),
        ({"request": "duplex"}, 503),
        ({"request": "duplex", "balancing": "original-dst", "endpoints": ()}, 503),
    ],
    ids=["open", "closed", "duplex", "duplex to the original destination"],
)
async def test_what_a_dead_picker_does_to_new_requests(pool, picker_of, client, fields, status):
    async with envoy(gateway(pool, picker_of, **fields)) as running:
        assert (await answer(client, running.url))[0] == 200
        await picker_of.kill()

        during, _ = await answer(client, running.url, headers={DESTINATION: "127.0.0.1:1"})

    assert during == status


async def test_a_picker_that_comes_back_is_asked_again(pool, picker_of, client):
    async with envoy(gateway(pool, picker_of, fail_open=False)) as running:
        await picker_of.kill()
        assert (await answer(client, running.url))[0] == 503
        await picker_of.start()

        status, said = await answer(client, running.url)

    assert status == 200
    assert DESTINATION in said["headers"]
