"""Requests through a real Envoy and a real picker, as each printed configuration sends them."""

import contextlib
import json

import aiohttp
import pytest
import pytest_asyncio
import yaml
from support.backends import backends
from support.envoy import envoy
from support.h2_client import post
from support.picker import picker

from epp.cli.envoy_config import config_yaml
from epp.cli.envoy_template import Gateway
from epp.domain.headers import DESTINATION

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

CHAT = "/v1/chat/completions"
QUIET = ("--secure-serving=false", "--metrics-endpoint-auth=false")


def chat(size: int = 10) -> bytes:
    message = {"role": "user", "content": "x" * size}
    return json.dumps({"model": "m", "messages": [message]}).encode()


@contextlib.asynccontextmanager
async def pool_and_picker(tmp_path):
    """Two backends and a picker that knows them."""
    async with backends("a", "b") as pool:
        path = tmp_path / "endpoints.yaml"
        listed = [
            {"name": each.name, "address": "127.0.0.1", "port": str(each.port)} for each in pool
        ]
        path.write_text(yaml.safe_dump({"endpoints": listed}))
        async with picker(f"--endpoints={path}", *QUIET) as running:
            yield pool, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting(tmp_path_factory):
    """For tests that leave everything as they find it."""
    async with pool_and_picker(tmp_path_factory.mktemp("lasting")) as both:
        yield both


@pytest_asyncio.fixture(loop_scope="module")
async def doomed(tmp_path):
    """For a test that ends something."""
    async with pool_and_picker(tmp_path) as both:
        yield both


@pytest_asyncio.fixture(loop_scope="module")
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
async def test_the_endpoint_that_answers_is_the_one_picked(lasting, client, request_, balancing):
    config = gateway(*lasting, request=request_, balancing=balancing)

    async with envoy(config) as running:
        status, said = await answer(client, running.url)

    ports = {each.name: each.port for each in lasting[0]}
    assert status == 200
    assert said["headers"][DESTINATION] == f"127.0.0.1:{ports[said['who']]}"


async def test_a_client_can_neither_steer_nor_wish(lasting, client):
    sent = {DESTINATION: "127.0.0.1:1", "x-prefiller-host-port": "1.2.3.4:5", "x-mine": "kept"}

    async with envoy(gateway(*lasting)) as running:
        status, said = await answer(client, running.url, headers=sent)

    assert status == 200
    assert said["headers"][DESTINATION] != "127.0.0.1:1"
    assert "x-prefiller-host-port" not in said["headers"]
    assert said["headers"]["x-mine"] == "kept"


@pytest.mark.parametrize("sent", [{"x-request-id": "theirs"}, {}], ids=["sent", "given"])
async def test_a_decision_is_found_by_the_id_its_client_sent_or_was_given(lasting, client, sent):
    async with (
        envoy(gateway(*lasting)) as running,
        client.post(running.url + CHAT, data=chat(), headers=sent) as reply,
    ):
        known = reply.headers["x-request-id"]

    async with client.get(lasting[1].url("debug", f"/debug/decisions?id={known}")) as page:
        (decision,) = (await page.json())["decisions"]
    assert known == sent.get("x-request-id", known)
    assert decision["client_id"] == known


@pytest.mark.parametrize("request_", ["buffered", "duplex"])
async def test_a_large_body_of_an_http2_client_arrives_whole(lasting, request_):
    async with envoy(gateway(*lasting, request=request_)) as running:
        host, port = running.address.split(":")
        status, said = await post(host, int(port), CHAT, chat(3_000_000))

    assert status == 200
    assert json.loads(said)["bytes"] == len(chat(3_000_000))


@pytest.mark.parametrize("response", ["full", "watch", "forget"])
@pytest.mark.parametrize("request_", ["buffered", "duplex"])
async def test_a_body_ended_by_trailers_is_answered(lasting, request_, response):
    config = gateway(*lasting, request=request_, response=response, fail_open=False)

    async with envoy(config) as running:
        host, port = running.address.split(":")
        status, said = await post(host, int(port), CHAT, chat(), trailers=True)

    assert status == 200
    assert json.loads(said)["bytes"] == len(chat())


async def test_an_endpoint_nobody_listens_on_costs_no_request(doomed, client):
    (dead, alive), _ = doomed
    async with envoy(gateway(*doomed)) as running:
        await dead.stop()
        answers = [await answer(client, running.url) for _ in range(10)]

    assert {(status, said["who"]) for status, said in answers} == {(200, alive.name)}


async def test_a_buffered_body_over_the_limit_is_too_large(lasting, client):
    async with envoy(gateway(*lasting, body_bytes=100_000)) as running:
        reply = await client.post(running.url + CHAT, data=chat(200_000))
        reply.release()

    assert reply.status == 413


WITHOUT_PICKER = {
    "buffered, open": ({}, 200),
    "buffered, closed": ({"fail_open": False}, 503),
    "duplex, open": ({"request": "duplex"}, 503),
    "duplex, original-dst": ({"request": "duplex", "balancing": "original-dst"}, 503),
}


async def test_what_a_dead_picker_does_to_new_posts(doomed, client):
    forged = {DESTINATION: "127.0.0.1:1"}
    async with contextlib.AsyncExitStack() as stack:
        gateways = {
            name: await stack.enter_async_context(envoy(gateway(*doomed, **fields)))
            for name, (fields, _) in WITHOUT_PICKER.items()
        }
        await doomed[1].kill()
        found = {
            name: (await answer(client, each.url, headers=forged))[0]
            for name, each in gateways.items()
        }

    assert found == {name: status for name, (_, status) in WITHOUT_PICKER.items()}


async def test_a_picker_that_comes_back_is_asked_again(doomed, client):
    _, dead = doomed
    async with envoy(gateway(*doomed, fail_open=False)) as running:
        await dead.kill()
        assert (await answer(client, running.url))[0] == 503
        await dead.start()

        status, said = await answer(client, running.url)

    assert status == 200
    assert DESTINATION in said["headers"]
