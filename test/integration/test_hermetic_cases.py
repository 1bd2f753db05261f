"""The request and response cases gateways' pickers are commonly held to, on real gRPC.

Where this picker answers otherwise on purpose, docs/migration.md lists it: 503 where nothing is
ready (never 500), JSON errors, only changed headers set, keys in their own order, response
pieces passed at once, no `x-went-into-resp-headers`.
"""

import json

import pytest
from support.ext_proc import (
    headers_set,
    request_body,
    request_headers,
    response_body,
    response_headers,
)
from support.hermetic import completion, hermetic, pod

CONFIG = """
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
- type: lora-affinity-scorer
- type: openai-parser
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
  - pluginRef: kv-cache-utilization-scorer
  - pluginRef: prefix-cache-scorer
  - pluginRef: lora-affinity-scorer
"""
PASSTHROUGH = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: passthrough-parser
requestHandler: {parsers: [{pluginRef: passthrough-parser}]}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: queue-scorer}, {pluginRef: kv-cache-utilization-scorer}]
"""
PRIORITIES = {"my-model": 2, "sql-lora": 2, "direct-model": 2}


def asked(objective="", target="", **options):
    headers = {"hi": "mom", "x-request-id": "test-request-id"}
    if objective:
        headers["x-gateway-inference-objective"] = objective
    if target:
        headers["x-gateway-model-name-rewrite"] = target
    return request_headers(headers, path="/v1/completions", **options)


def llm(prompt, objective, target, hint=None):
    """One request as two messages; the body's model is the objective's name."""
    return (
        asked(objective, target),
        request_body(completion(objective, prompt), end=True, hint=hint),
    )


def routed(replies):
    """Destination, and the body that goes on; checks what every routed request has."""
    header, *bodies = replies
    common = header.request_headers.response
    headers = headers_set(common.header_mutation)
    place = headers["x-gateway-destination-endpoint"]
    lb = header.dynamic_metadata["envoy.lb"]
    pieces = [reply.request_body.response.body_mutation.streamed_response for reply in bodies]
    assert common.clear_route_cache
    assert lb["x-gateway-destination-endpoint"] == place
    assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    return place, b"".join(piece.body for piece in pieces)


CASES = [
    pytest.param(
        llm("test1", "my-model", "my-model-12345"),
        [pod(0, 3, 0.2), pod(1, 0, 0.1), pod(2, 10, 0.2)],
        ("192.168.1.2:8000", "my-model-12345"),
        id="lower-queue-and-kv-cache",
    ),
    pytest.param(
        llm("test2", "sql-lora", "sql-lora-1fdg2"),
        [
            pod(0, 0, 0.2, "foo", "bar"),
            pod(1, 0, 0.1, "foo", "sql-lora-1fdg2"),
            pod(2, 10, 0.2, "foo", "bar"),
        ],
        ("192.168.1.2:8000", "sql-lora-1fdg2"),
        id="active-lora-low-queue",
    ),
    pytest.param(
        llm("test3", "sql-lora", "target"),
        [
            pod(0, 10, 0.2, "foo", "bar"),
            pod(1, 10, 0.4, "foo", "target"),
            pod(2, 10, 0.3, "foo"),
        ],
        ("192.168.1.2:8000", "target"),
        id="lora-despite-higher-kv-cache",
    ),
    pytest.param(
        llm("test4", "sql-lora", "target"),
        [pod(0, 6, 0.2, "foo", "bar", "target"), pod(1, 0, 0.85), pod(2, 10, 0.9)],
        ("192.168.1.1:8000", "target"),
        id="nothing-is-shed-by-default",
    ),
    pytest.param(
        (
            asked("sql-lora-sheddable", "target"),
            request_body(completion("sql-lora-sheddable", "split")[:20]),
            request_body(completion("sql-lora-sheddable", "split")[20:], end=True),
        ),
        [pod(0, 4, 0.2, "foo", "target"), pod(1, 4, 0.85, "foo", "target")],
        ("192.168.1.1:8000", "target"),
        id="body-in-two-pieces",
    ),
    pytest.param(
        llm("test5", "direct-model", "direct-model"),
        [pod(0, 4, 0.2)],
        ("192.168.1.1:8000", "direct-model"),
        id="model-without-a-rewrite",
    ),
]
FOR_SUBSETS = [pod(0, 0, 0.2, "foo"), pod(1, 0, 0.1, "foo", "target"), pod(2, 10, 0.2, "foo")]
SUBSETS = [
    pytest.param([f"192.168.1.{i}:8000" for i in (1, 2, 3)], "192.168.1.2:8000", id="best"),
    pytest.param(["192.168.1.3:8000"], "192.168.1.3:8000", id="only-one"),
    pytest.param("192.168.1.3:8000, 192.168.1.99:8000", "192.168.1.3:8000", id="comma-string"),
    pytest.param(["192.168.1.3"], "192.168.1.3:8000", id="without-a-port"),
]


@pytest.mark.parametrize(("messages", "pods", "expected"), CASES)
async def test_a_request_goes_where_it_should(messages, pods, expected):
    async with hermetic(pods, config=CONFIG, priorities=PRIORITIES) as house:
        place, body = routed(await house.ask(*messages))

        assert (place, json.loads(body)["model"]) == expected


async def test_requests_and_ready_endpoints_are_counted_under_the_old_names():
    pods = [pod(0, 3, 0.2), pod(1, 0, 0.1), pod(2, 10, 0.2)]
    async with hermetic(pods, config=CONFIG, priorities=PRIORITIES) as house:
        await house.ask(*llm("test1", "my-model", "my-model-12345"))
        labels = 'model_name="my-model",priority="2",target_model_name="my-model-12345"'

        assert house.sample(f"inference_objective_request_total{{{labels}}}") == 1
        assert house.sample('inference_pool_ready_pods{name="vllm-qwen3-32b-pool"}') == 3


async def test_a_passed_through_body_is_not_touched():
    pods = [pod(0, 3, 0.2), pod(1, 0, 0.1), pod(2, 10, 0.2)]
    async with hermetic(pods, config=PASSTHROUGH) as house:
        raw = b"passthrough-parser"
        replies = await house.ask(asked("my-model"), request_body(raw, end=True))

        assert routed(replies) == ("192.168.1.2:8000", raw)


@pytest.mark.parametrize(("hint", "expected"), SUBSETS)
async def test_only_the_gateways_subset_is_chosen_from(hint, expected):
    async with hermetic(FOR_SUBSETS, config=CONFIG) as house:
        place, _ = routed(await house.ask(*llm("test2", "sql-lora", "target", hint=hint)))

        assert place == expected


REFUSED = [
    pytest.param(
        (asked(), request_body(b"no healthy upstream", end=True)),
        [pod(0, 0, 0.2)],
        (400, ""),
        id="body-that-is-no-json",
    ),
    pytest.param(
        (asked(), request_body(b'{"prompt": "hello world"}', end=True)),
        [],
        (400, ""),
        id="no-model",
    ),
    pytest.param(
        (asked(end=True, method="GET"),), [], (503, "no-endpoints"), id="bodyless-and-no-endpoint"
    ),
    pytest.param(llm("a", "b", "c"), [], (503, "no-endpoints"), id="no-endpoint"),
    pytest.param(
        llm("test2", "sql-lora", "target", hint=["192.168.1.99:8000"]),
        [pod(0, 0, 0.2), pod(1, 0, 0.1)],
        (503, "no-endpoints"),
        id="subset-matches-none",
    ),
    pytest.param(
        llm("test2", "sql-lora", "target", hint=[]),
        [pod(0, 0, 0.2)],
        (503, "no-endpoints"),
        id="subset-is-empty",
    ),
]


@pytest.mark.parametrize(("messages", "pods", "expected"), REFUSED)
async def test_what_cannot_be_served_is_refused_with_its_status(messages, pods, expected):
    async with hermetic(pods, config=CONFIG) as house:
        (reply,) = await house.ask(*messages)
        refusal = reply.immediate_response
        reason = headers_set(refusal.headers).get("x-llm-d-request-dropped-reason", "")

        assert (refusal.status.code, reason) == expected
        assert json.loads(refusal.body)["error"]["message"]


async def test_a_rewrite_rule_beats_the_header():
    rewrites = {"model-to-be-rewritten": "rewritten-model"}
    async with hermetic([pod(0, 0, 0.1)], config=CONFIG, rewrites=rewrites) as house:
        asked_for = "model-to-be-rewritten"
        _, body = routed(await house.ask(*llm("test-rewrite", asked_for, "from-the-header")))

        assert json.loads(body)["model"] == "rewritten-model"


async def test_a_get_goes_through_the_same_scheduler():
    async with hermetic([pod(0, 5, 0.5), pod(1, 0, 0.1)], config=CONFIG) as house:
        (reply,) = await house.ask(asked(end=True, method="GET"))
        headers = headers_set(reply.request_headers.response.header_mutation)

        assert headers["x-gateway-destination-endpoint"] == "192.168.1.2:8000"


RESPONSES = [
    pytest.param(
        "application/json", [b'{"max_tokens":100,"model":"m",', b'"object":"x"}'], id="two-halves"
    ),
    pytest.param("application/json", [b"no healthy upstream"], id="no-json"),
    pytest.param("application/json", [b'{"model":"m"}', b""], id="empty-last-piece"),
    pytest.param(
        "text/event-stream",
        [
            b"data: {}\n\n",
            b'data: {"usage":{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10}}\n\n',
            b"data: [DONE]\n\n",
            b"",
        ],
        id="events",
    ),
]


@pytest.mark.parametrize(("content_type", "pieces"), RESPONSES)
async def test_a_response_passes_unchanged_with_one_end(content_type, pieces):
    async with hermetic([pod(0, 0, 0.1)], config=CONFIG) as house:
        last = len(pieces) - 1
        replies = await house.ask(
            *llm("p", "m", "m"),
            response_headers(200, **{"content-type": content_type}),
            *(response_body(piece, end=i == last) for i, piece in enumerate(pieces)),
        )
        answers = [reply.response_body for reply in replies if reply.HasField("response_body")]
        streamed = [answer.response.body_mutation.streamed_response for answer in answers]

        assert b"".join(piece.body for piece in streamed) == b"".join(pieces)
        assert [piece.end_of_stream for piece in streamed].count(True) == 1


async def test_tokens_of_an_event_stream_are_counted_once():
    async with hermetic([pod(0, 0, 0.1)], config=CONFIG) as house:
        usage = b'data: {"usage":{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10}}\n\n'
        await house.ask(
            *llm("p", "m", "m"),
            response_headers(200, **{"content-type": "text/event-stream"}),
            response_body(usage[:30]),
            response_body(usage[30:]),
            response_body(b"data: [DONE]\n\n", end=True),
        )
        labels = 'model_name="m",target_model_name="m"'

        assert house.sample(f"inference_objective_input_tokens_sum{{{labels}}}") == 7
        assert house.sample(f"inference_objective_input_tokens_count{{{labels}}}") == 1
