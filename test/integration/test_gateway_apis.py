"""Every API through real Envoy, in both request modes with each response mode, TLS on."""

import asyncio
import itertools
import json

import pytest
import pytest_asyncio
from support.gateway import CHAT, MODEL, Variant, chat_body, standing

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

VARIANTS = [
    *(
        Variant(request, response)
        for request, response in itertools.product(
            ("buffered", "duplex"), ("full", "watch", "forget")
        )
    ),
    Variant("duplex", "full", "original-dst"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=VARIANTS, ids=str)
async def house(request):
    async with standing(request.param) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def at_rest(house):
    yield
    await house.comes_to_rest()


async def test_a_chat_is_answered_by_the_endpoint_that_was_picked(house):
    answer = await house.chat("hello", ignore_eos=True)

    assert answer.status == 200
    assert json.loads(answer.body)["usage"]["completion_tokens"] == 4
    assert answer.headers["x-epp-endpoint"] == house.sim_of(answer.pod).address


async def test_a_streamed_chat_arrives_whole_and_in_order(house):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    answer = await house.chat("stream it", max_tokens=20, ignore_eos=True, **options)

    events = [line[6:] for line in answer.body.split(b"\n") if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] == 20


async def test_completions_take_text_lists_and_token_ids(house):
    for prompt in ("text", ["one", "two"], [1, 2, 3], [[1, 2], [3, 4]]):
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 2}
        answer = await house.send("POST", "/v1/completions", json=body)

        assert answer.status == 200, answer.body


async def test_embeddings_are_answered(house):
    body = {"model": MODEL, "input": ["a", "b"]}
    answer = await house.send("POST", "/v1/embeddings", json=body)

    assert (answer.status, len(json.loads(answer.body)["data"])) == (200, 2)


async def test_anthropic_messages_are_answered(house):
    body = {"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
    answer = await house.send("POST", "/v1/messages", json=body)

    assert (answer.status, json.loads(answer.body)["type"]) == (200, "message")


async def test_a_get_is_scheduled_too(house):
    answer = await house.send("GET", "/v1/models")

    assert json.loads(answer.body)["data"][0]["id"] == MODEL
    assert answer.headers["x-epp-endpoint"] == house.sim_of(answer.pod).address


async def test_a_body_of_one_megabyte_arrives_unchanged(house):
    words = " ".join(str(i) for i in range(160_000))
    answer = await house.chat(words)

    assert answer.status == 200
    assert json.loads(answer.body)["usage"]["prompt_tokens"] > 200_000


async def test_a_chunked_body_is_read_to_its_end(house):
    async def pieces():
        text = json.dumps(chat_body("in pieces " * 200)).encode()
        for start in range(0, len(text), 500):
            yield text[start : start + 500]
            await asyncio.sleep(0.001)

    headers = {"content-type": "application/json"}
    answer = await house.send("POST", CHAT, data=pieces(), headers=headers)

    assert answer.status == 200


async def test_a_body_that_ends_with_trailers_is_answered(house):
    body = json.dumps(chat_body("trailers")).encode()
    host, port = house.envoy.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\ntrailer: x-checksum\r\nte: trailers\r\n"
        b"connection: close\r\n\r\n"
        + f"{len(body):x}\r\n".encode()
        + body
        + b"\r\n0\r\nx-checksum: 1\r\n\r\n"
    )
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 200"), answer[:300]


async def test_what_cannot_be_read_is_a_400_that_says_so(house):
    answer = await house.send("POST", CHAT, data=b'{"model": ')

    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert json.loads(answer.body)["error"]["message"]


async def test_an_anthropic_error_has_its_own_shape(house):
    answer = await house.send("POST", "/v1/messages", json={"model": MODEL, "max_tokens": 4})

    assert answer.status == 400
    assert json.loads(answer.body)["type"] == "error"


async def test_equal_prefixes_go_to_the_same_endpoint(house):
    prefix = f"{house.variant}: " + "the same long opening " * 400
    pods = {(await house.chat(prefix + str(i))).pod for i in range(4)}

    assert len(pods) == 1


async def test_a_client_that_leaves_while_it_streams_frees_everything(house):
    body = chat_body("leave", stream=True, max_tokens=2000, ignore_eos=True)
    async with house.client.post(house.envoy.url + CHAT, json=body) as response:
        await response.content.readany()
        pod = response.headers["x-inference-pod"]
        response.close()

    await house.sim_of(pod).until(running=0, waiting=0)


async def test_a_client_that_leaves_in_prefill_frees_everything(house):
    for sim in house.sims:
        await sim.faults(slow=50.0)
    try:
        with pytest.raises(asyncio.TimeoutError):
            await house.chat("x" * 200_000, patience=0.5)
    finally:
        for sim in house.sims:
            await sim.faults(clear=True)
    for sim in house.sims:
        await sim.until(running=0, waiting=0, seconds=10)


async def test_a_client_cannot_name_the_endpoint(house):
    forged = {
        "x-gateway-destination-endpoint": "10.255.255.1:80",
        "x-gateway-destination-endpoint-subset": "10.255.255.1:80",
        "x-prefiller-host-port": "10.255.255.1:80",
    }
    post = await house.chat("forged", headers=forged)
    get = await house.send("GET", "/v1/models", headers=forged)

    assert (post.status, get.status) == (200, 200)
