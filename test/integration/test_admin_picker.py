"""What a running picker says of itself after it has placed and refused requests."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

import aiohttp
import grpc
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from support.ext_proc import (
    modes,
    request_body,
    request_headers,
    response_body,
    response_headers,
)
from support.picker import Picker, picker

from epp.admin.pages import PAGES, DecisionsPage, EndpointsPage, RequestsPage
from epp.wire.gen.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from epp.wire.session import PROCESS

TIMEOUT = 10.0
ENDPOINTS = """
endpoints:
  - {name: pod-a, address: 127.0.0.1, port: "1"}
"""
ONCE_SERVED = {
    "llm_d_epp_request_total": 1,
    "inference_objective_request_total": 1,
    "llm_d_epp_request_input_tokens_sum": 10,
    "inference_objective_output_tokens_sum": 4,
    "llm_d_epp_request_ttft_seconds_count": 1,
    "inference_pool_ready_pods": 1,
    "llm_d_epp_request_running": 0,
    "inference_objective_running_requests": 0,
    "llm_d_epp_inflight_requests": 0,
    "llm_d_epp_inflight_tokens": 0,
    "llm_d_epp_held_body_bytes": 0,
}
CHAT = json.dumps({"model": "llama", "messages": [{"role": "user", "content": "the secret"}]})
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
ANSWER = json.dumps({"id": "x", "model": "llama", "choices": [], "usage": USAGE})


@asynccontextmanager
async def running(folder, *flags: str) -> AsyncIterator[Picker]:
    file = folder / "endpoints.yaml"
    file.write_text(ENDPOINTS)
    async with picker("--endpoints", str(file), "--secure-serving=false", *flags) as made:
        yield made


@asynccontextmanager
async def stream_to(made: Picker):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{made.ports['grpc']}") as channel:
        yield channel.stream_stream(
            PROCESS,
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )(timeout=TIMEOUT)


async def serve(made: Picker, body: str = CHAT) -> None:
    """One request through the picker, in duplex and full; answered if it is placed."""
    async with stream_to(made) as stream:
        headers = request_headers({"x-request-id": "theirs", "content-type": "application/json"})
        await stream.write(modes(headers, *["FULL_DUPLEX_STREAMED"] * 2))
        await stream.write(request_body(body.encode(), end=True))
        first = await stream.read()
        if not first.HasField("immediate_response"):
            await stream.write(response_headers(200, **{"content-type": "application/json"}))
            await stream.write(response_body(ANSWER.encode(), end=True))
        await stream.done_writing()
        while await stream.read() is not grpc.aio.EOF:
            pass


async def page(made: Picker, path: str, port: str = "debug") -> bytes:
    async with aiohttp.ClientSession() as client, client.get(made.url(port, path)) as answer:
        assert answer.status == 200
        return await answer.read()


async def decoded(made: Picker, path: str, kind):
    return msgspec.json.decode(await page(made, f"/debug/{path}"), type=kind)


async def samples(made: Picker) -> dict[str, float]:
    """Sums by name."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(
        (await page(made, "/metrics", "metrics")).decode()
    ):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


async def test_a_served_request_is_seen_everywhere_but_in_the_log(tmp_path):
    async with running(tmp_path) as made:
        await serve(made)
        seen = await samples(made)
        rows = (await page(made, "/metrics", "metrics")).decode().splitlines()
        record = (await decoded(made, "decisions?id=theirs", DecisionsPage)).decisions[0]
        texts = {name: await page(made, f"/debug/{name}?endpoint=pod-a") for name in PAGES}
        lines = [line for line in made.log_text().splitlines() if "scrape_broken" not in line]

    assert {name: seen[name] for name in ONCE_SERVED} == ONCE_SERVED
    told = (record.model, record.destination, record.ending, record.status)
    assert told == ("llama", "127.0.0.1:1", "complete", 200)
    for name, text in texts.items():
        msgspec.json.decode(text, type=PAGES[name])
    assert [name for name, text in texts.items() if b"the secret" in text] == []
    assert lines == []
    version = metadata.version("epp")
    assert f'llm_d_epp_info{{build_ref="{version}",commit="unknown"}} 1.0' in rows


async def test_nothing_is_open_once_the_client_is_gone(tmp_path):
    async with running(tmp_path) as made:
        async with stream_to(made) as stream:
            await stream.write(modes(request_headers(), *["FULL_DUPLEX_STREAMED"] * 2))
            await stream.write(request_body(CHAT.encode(), end=True))
            await stream.read()
            during = await decoded(made, "requests", RequestsPage)
            stream.cancel()
        after = await settled(made)
        pool = await decoded(made, "endpoints", EndpointsPage)

    assert (during.open_count, after.open_count) == (1, 0)
    assert pool.endpoints[0].inflight_requests == 0


async def settled(made: Picker) -> RequestsPage:
    """The page of requests once nothing is open."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            seen = await decoded(made, "requests", RequestsPage)
            if not seen.open_count:
                return seen
            await asyncio.sleep(0.01)


async def test_a_refusal_is_one_line_without_the_prompt(tmp_path):
    async with running(tmp_path) as made:
        await serve(made, '{"messages": "the secret"}')
        await made.terminate()
        text = made.log_text()

    lines = [json.loads(line) for line in text.splitlines() if "request refused" in line]
    assert [line["status"] for line in lines] == [400]
    assert "the secret" not in text


async def test_refusals_and_older_names_can_be_switched_off(tmp_path):
    async with running(tmp_path, "-v=1", "--emit-old-metrics=false") as made:
        await serve(made, '{"messages": "the secret"}')
        names = await samples(made)
        await made.terminate()
        text = made.log_text()

    assert [name for name in names if name.startswith("inference_")] == []
    assert "request refused" not in text
