"""Every API of the simulator answers in vLLM's shapes."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from support.sims import simulator_here

from vllm_sim.engine import Pacing
from vllm_sim.options import LoraModule

USER = [{"role": "user", "content": "tell me of the sea, please, and of all that swims in it"}]
QUICK = Pacing(ttft=0.002, itl=0.001)


@asynccontextmanager
async def quick_sim(**options):
    async with simulator_here(model="m", pacing=QUICK, **options) as sim:
        yield sim


async def post(sim, path, **body):
    async with sim.session.post(f"{sim.url}{path}", json=body) as answer:
        text = await answer.text()
        kind = answer.content_type
        return answer.status, json.loads(text) if kind == "application/json" else text


def events(text):
    """The data of each event of a stream, decoded; [DONE] stays text."""
    rows = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [row if row == "[DONE]" else json.loads(row) for row in rows]


async def test_a_chat_says_as_much_as_it_was_told_to():
    async with quick_sim() as sim:
        status, body = await post(
            sim, "/v1/chat/completions", model="m", messages=USER, max_tokens=7, ignore_eos=True
        )
        assert status == 200
        assert body["usage"]["completion_tokens"] == 7
        assert body["choices"][0]["finish_reason"] == "length"


async def test_a_repeated_prompt_is_cached_but_for_its_last_tokens():
    async with quick_sim() as sim:
        for _ in range(2):
            _, body = await post(sim, "/v1/completions", model="m", prompt="x" * 256, max_tokens=1)
        assert body["usage"]["prompt_tokens"] == 64
        assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 48


async def test_the_next_turn_finds_the_answer_of_the_last_in_the_cache():
    async with quick_sim() as sim:
        first = {"messages": USER, "model": "m", "max_tokens": 64, "ignore_eos": True}
        _, told = await post(sim, "/v1/chat/completions", **first)
        said = told["choices"][0]["message"]["content"].rstrip()
        turns = [*USER, {"role": "assistant", "content": said}, *USER]
        _, body = await post(sim, "/v1/chat/completions", model="m", messages=turns, max_tokens=1)
        prompt = told["usage"]["prompt_tokens"]
        assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == (prompt + 63) // 16 * 16


@pytest.mark.parametrize("n", [1, 2])
async def test_a_streamed_chat_ends_with_usage_and_done(n):
    async with quick_sim() as sim:
        _, text = await post(
            sim,
            "/v1/chat/completions",
            model="m",
            messages=USER,
            max_tokens=4,
            ignore_eos=True,
            n=n,
            stream=True,
            stream_options={"include_usage": True},
        )
        *chunks, usage, done = events(text)
        assert done == "[DONE]"
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == 4 * n
        reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
        assert len(chunks) == 5 * n
        assert reasons.count("length") == n


async def test_continuous_usage_counts_up():
    async with quick_sim() as sim:
        options = {"include_usage": True, "continuous_usage_stats": True}
        body = {"prompt": "once", "max_tokens": 3, "ignore_eos": True, "stream": True}
        _, text = await post(sim, "/v1/completions", model="m", stream_options=options, **body)
        counts = [event["usage"]["completion_tokens"] for event in events(text)[:-1]]
        assert counts == [1, 2, 3, 3]


async def test_stream_headers_come_before_prefill():
    async with quick_sim() as sim:
        await sim.faults(stall=True)
        body = {"model": "m", "prompt": "x", "max_tokens": 1, "stream": True}
        async with sim.session.post(f"{sim.url}/v1/completions", json=body) as answer:
            before = await sim.state()
            await sim.faults(stall=False)
            text = await answer.text()
        assert (answer.status, before["prompt_tokens"], before["open"]) == (200, 0, 1)
        assert events(text)[-1] == "[DONE]"


async def test_a_client_that_leaves_frees_its_blocks():
    slow = Pacing(ttft=30)
    async with simulator_here(model="m", pacing=slow) as sim:
        task = asyncio.create_task(post(sim, "/v1/completions", model="m", prompt="x" * 99))
        await sim.until(running=1)
        task.cancel()
        state = await sim.until(running=0, open=0)
        assert state["requests"]["aborted"] == 1
        assert state["kv"]["free"] == state["kv"]["blocks"]


@pytest.mark.parametrize(
    ("path", "body", "size"),
    [
        ("/v1/completions", {"prompt": ["aaaa", "bbbb"]}, 2),
        ("/v1/completions", {"prompt": [1, 2, 3]}, 1),
        ("/v1/completions", {"prompt": [[1, 2], [3]]}, 2),
    ],
    ids=["texts", "ids", "lists of ids"],
)
async def test_completions_take_every_form_of_prompt(path, body, size):
    async with quick_sim() as sim:
        status, answer = await post(sim, path, model="m", max_tokens=2, **body)
        assert (status, len(answer["choices"])) == (200, size)


async def test_messages_answer_as_anthropic_does():
    async with quick_sim() as sim:
        status, body = await post(sim, "/v1/messages", model="m", messages=USER, max_tokens=3)
        assert status == 200
        assert (body["type"], body["role"]) == ("message", "assistant")
        assert body["usage"]["output_tokens"] <= 3
        _, count = await post(sim, "/v1/messages/count_tokens", model="m", messages=USER)
        written = body["usage"]["cache_creation_input_tokens"]
        assert count["input_tokens"] == body["usage"]["input_tokens"] + written


async def test_a_streamed_message_has_every_event_in_order():
    async with quick_sim(mode="echo") as sim:
        body = {"model": "m", "messages": [{"role": "user", "content": "12345678"}]}
        _, text = await post(sim, "/v1/messages", max_tokens=9, stream=True, **body)
        assert [event["type"] for event in events(text)] == [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_answer(stream):
    async with quick_sim() as sim:
        status, body = await post(
            sim, "/v1/responses", model="m", input="hi", max_output_tokens=4, stream=stream
        )
        final = events(body)[-1]["response"] if stream else body
        assert status == 200
        assert final["object"] == "response"
        assert final["usage"]["output_tokens"] >= 1


async def test_generate_takes_and_gives_token_ids():
    async with quick_sim() as sim:
        status, body = await post(
            sim,
            "/inference/v1/generate",
            token_ids=[5, 6, 7],
            sampling_params={"max_tokens": 3, "ignore_eos": True},
        )
        assert status == 200
        assert len(body["choices"][0]["token_ids"]) == 3


async def test_embeddings_are_the_same_each_time():
    async with quick_sim() as sim:
        bodies = [await post(sim, "/v1/embeddings", model="m", input=["a", "b"]) for _ in "12"]
        vectors = [[row["embedding"] for row in body["data"]] for _, body in bodies]
        assert vectors[0] == vectors[1]
        assert len(vectors[0][0]) == 384


async def test_tokens_come_back_as_the_text_they_were():
    async with quick_sim() as sim:
        text = "Grüße aus München, 你好"
        _, body = await post(sim, "/tokenize", model="m", prompt=text)
        _, back = await post(sim, "/detokenize", model="m", tokens=body["tokens"])
        assert back == {"prompt": text}
        assert body["count"] == len(body["tokens"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions/render", {"messages": USER}),
        ("/v1/messages/render", {"messages": USER}),
        ("/v1/responses/render", {"input": "hi"}),
    ],
)
async def test_render_shows_the_tokens(path, body):
    async with quick_sim() as sim:
        status, shown = await post(sim, path, model="m", **body)
        assert status == 200
        assert shown["token_ids"]


async def test_a_required_tool_is_called():
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    async with quick_sim() as sim:
        body = {"messages": USER, "tools": [tool], "tool_choice": "required"}
        _, answer = await post(sim, "/v1/chat/completions", model="m", max_tokens=5, **body)
        call = answer["choices"][0]["message"]["tool_calls"][0]["function"]
        assert call["name"] == "weather"
        assert json.loads(call["arguments"]) == {"city": "word"}


@pytest.mark.parametrize(
    ("choice", "reason"),
    [("required", "tool_calls"), ({"type": "function", "function": {"name": "weather"}}, "stop")],
    ids=["demanded", "named"],
)
async def test_a_streamed_call_comes_in_pieces(choice, reason):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    async with quick_sim(mode="echo") as sim:
        body = {"messages": USER, "tools": [tool], "tool_choice": choice, "stream": True}
        _, text = await post(sim, "/v1/chat/completions", model="m", **body)
        _, *chunks, last, _ = events(text)
        calls = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in (*chunks, last)]
        assert calls[0]["function"] == {"name": "weather"}
        assert json.loads("".join(call["function"]["arguments"] for call in calls[1:])) == {}
        assert last["choices"][0]["finish_reason"] == reason


async def test_a_stop_text_is_named_as_the_reason():
    async with quick_sim(mode="echo") as sim:
        prompt = "all is well that ends well"
        _, body = await post(sim, "/v1/completions", model="m", prompt=prompt, stop=["that"])
        choice = body["choices"][0]
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "that")
        assert choice["text"] == "all is well "


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "param"),
    [
        ("/v1/completions", {"model": "x", "prompt": "a"}, 404, "NotFoundError", "model"),
        ("/v1/completions", {"model": "m"}, 400, "BadRequestError", "prompt"),
        ("/v1/chat/completions", {"model": "m"}, 400, "Bad Request", "body.messages"),
        (
            "/v1/completions",
            {"prompt": "a", "max_tokens": "many"},
            400,
            "Bad Request",
            "body.max_tokens",
        ),
        (
            "/v1/completions",
            {"prompt": "a", "max_tokens": 9**9},
            400,
            "BadRequestError",
            "max_tokens",
        ),
        ("/v1/messages", {"messages": USER}, 400, "Bad Request", "body.max_tokens"),
    ],
    ids=["model", "no prompt", "no messages", "text limit", "too long", "no limit"],
)
async def test_refusals_have_vllms_shape(path, body, status, kind, param):
    async with quick_sim() as sim:
        got, answer = await post(sim, path, **body)
        error = answer["error"]
        assert (got, error["type"], error["param"], error["code"]) == (status, kind, param, status)


async def test_a_messages_refusal_has_anthropics_shape():
    async with quick_sim() as sim:
        status, answer = await post(sim, "/v1/messages", model="nope", messages=USER, max_tokens=1)
        assert status == 404
        assert (answer["type"], answer["error"]["type"]) == ("error", "NotFoundError")


@pytest.mark.parametrize(("version", "status"), [("0.31.0", 400), ("0.32.0", 200)])
async def test_a_priority_on_fcfs_is_refused_by_older_versions_only(version, status):
    async with quick_sim(version=version) as sim:
        got, _ = await post(sim, "/v1/completions", model="m", prompt="a", max_tokens=1, priority=3)
        assert got == status


async def test_an_unknown_path_is_refused_as_the_web_framework_does():
    async with quick_sim() as sim:
        assert await post(sim, "/v1/nothing") == (404, {"detail": "Not Found"})


async def test_adapters_are_loaded_served_listed_and_unloaded():
    async with quick_sim(lora_modules=(LoraModule("a1", "/a1"),)) as sim:
        status, _ = await post(sim, "/v1/load_lora_adapter", lora_name="a2", lora_path="/a2")
        assert status == 200
        status, body = await post(sim, "/v1/completions", model="a2", prompt="x", max_tokens=1)
        assert (status, body["model"]) == (200, "a2")
        assert 'running_lora_adapters="a2"' in await sim.metrics()
        async with sim.session.get(f"{sim.url}/v1/models") as answer:
            cards = {card["id"]: card["parent"] for card in (await answer.json())["data"]}
        assert cards == {"m": None, "a1": "m", "a2": "m"}
        await post(sim, "/v1/unload_lora_adapter", lora_name="a2")
        status, _ = await post(sim, "/v1/completions", model="a2", prompt="x", max_tokens=1)
        assert status == 404


async def test_a_sleeping_server_lets_requests_wait_until_it_wakes():
    async with simulator_here(model="m", time_scale=20.0) as sim:
        await post(sim, "/v1/completions", model="m", prompt="x" * 999, max_tokens=1)
        assert await post(sim, "/sleep?level=1") == (200, {"status": "sleeping", "level": 1})
        task = asyncio.create_task(
            post(sim, "/v1/completions", model="m", prompt="x", max_tokens=1)
        )
        state = await sim.until(waiting=1)
        assert (state["sleeping"], state["kv"]["cached"]) == (True, 0)
        await post(sim, "/wake_up?tags=weights")
        assert (await sim.state())["sleeping"]
        await post(sim, "/wake_up")
        assert (await task)[0] == 200
        async with sim.session.get(f"{sim.url}/is_sleeping") as answer:
            assert await answer.json() == {"is_sleeping": False}


async def test_a_full_queue_is_refused():
    async with simulator_here(
        model="m", pacing=Pacing(ttft=30), max_num_seqs=1, max_waiting=1
    ) as sim:
        held = [
            asyncio.create_task(post(sim, "/v1/completions", model="m", prompt="x")) for _ in "12"
        ]
        await sim.until(running=1, waiting=1)
        status, _ = await post(sim, "/v1/completions", model="m", prompt="x")
        assert status == 429
        for task in held:
            task.cancel()
        await asyncio.wait(held)


async def test_prefill_holds_its_blocks_until_the_decoder_has_read_them():
    async with simulator_here(model="m") as prefill, simulator_here(model="m") as decode:
        body = {"model": "m", "prompt": "x" * 512, "max_tokens": 4, "ignore_eos": True}
        ask = {"do_remote_decode": True, "do_remote_prefill": False}
        _, first = await post(prefill, "/v1/completions", **body, kv_transfer_params=ask)
        assert first["choices"][0]["finish_reason"] == "remote_decode"
        assert (await prefill.state())["kv"]["pinned"] == 1
        params = first["kv_transfer_params"]
        _, second = await post(decode, "/v1/completions", **body, kv_transfer_params=params)
        assert second["usage"]["completion_tokens"] == 4
        await prefill.until(running=0)
        async with asyncio.timeout(45):
            while (await prefill.state())["kv"]["pinned"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert 'vllm:external_prefix_cache_hits_total{engine="0",model_name="m"} 128.0' in (
            await decode.metrics()
        )


async def test_a_cold_cache_hands_the_request_back_below_the_threshold():
    async with quick_sim() as sim:
        _, body = await post(
            sim, "/v1/completions", model="m", prompt="x" * 640, cache_hit_threshold=0.5
        )
        assert body["choices"][0]["finish_reason"] == "cache_threshold"
        assert body["choices"][0]["text"] == ""


async def test_orca_headers_come_on_request():
    async with quick_sim() as sim:
        body = {"model": "m", "prompt": "x", "max_tokens": 1}
        wanted = {"endpoint-load-metrics-format": "JSON"}
        async with sim.session.post(f"{sim.url}/v1/completions", json=body, headers=wanted) as got:
            shown = got.headers["endpoint-load-metrics"].removeprefix("JSON ")
            assert set(json.loads(shown)["named_metrics"]) == {
                "kv_cache_usage_perc",
                "num_requests_waiting",
            }


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/ping", "/version", "/load"])
async def test_small_doors_are_open(path):
    async with quick_sim() as sim, sim.session.get(f"{sim.url}{path}") as answer:
        assert answer.status == 200


async def test_readiness_waits_for_the_start_up_time():
    async with quick_sim(startup_s=30.0) as sim:
        codes = []
        for path in ("/health", "/health/ready"):
            async with sim.session.get(f"{sim.url}{path}") as answer:
                codes.append(answer.status)
        assert codes == [200, 503]
