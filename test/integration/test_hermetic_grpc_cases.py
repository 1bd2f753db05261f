"""The gRPC cases gateways' pickers are commonly held to: calls of vLLM's engine service.

Where this picker answers otherwise on purpose, docs/migration.md lists it: 503 where nothing is
ready, errors as a gRPC status and message, response pieces passed at once.
"""

import pytest
from support.ext_proc import (
    headers_set,
    request_body,
    request_headers,
    response_body,
    response_headers,
    response_trailers,
)
from support.hermetic import hermetic, pod

from epp.request.gen.vllm_engine_pb2 import EmbedRequest, GenerateRequest, GenerateResponse
from epp.request.grpc import framed

CONFIG = """
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
- type: vllmgrpc-parser
requestHandler: {parsers: [{pluginRef: vllmgrpc-parser}]}
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
  - pluginRef: kv-cache-utilization-scorer
  - pluginRef: prefix-cache-scorer
"""
SERVICE = "/vllm.grpc.engine.VllmEngine/"
IDS = {"input_ids": list(range(40))}
GENERATE = framed(GenerateRequest(request_id="1", tokenized=IDS).SerializeToString())
STREAM = framed(GenerateRequest(request_id="1", tokenized=IDS, stream=True).SerializeToString())
EMBED = framed(EmbedRequest(request_id="1", tokenized=IDS).SerializeToString())
LOADED = [pod(0, 3, 0.2), pod(1, 0, 0.1), pod(2, 10, 0.2)]
FOR_SUBSETS = [pod(0, 0, 0.2), pod(1, 0, 0.1), pod(2, 10, 0.2)]
GRPC = {"content-type": "application/grpc"}


def asked(method="Generate", objective="", **options):
    headers = {"x-request-id": "test-request-id", "te": "trailers", **GRPC}
    if objective:
        headers["x-gateway-inference-objective"] = objective
    return request_headers(headers, path=options.pop("path", SERVICE + method), **options)


def routed(replies):
    """Destination and body of a placed call, and what it answers after them."""
    common = replies[0].request_headers.response
    lb = replies[0].dynamic_metadata["envoy.lb"]
    place = headers_set(common.header_mutation)["x-gateway-destination-endpoint"]
    assert common.clear_route_cache
    assert lb["x-gateway-destination-endpoint"] == place
    bodies = [reply for reply in replies[1:] if reply.HasField("request_body")]
    pieces = [reply.request_body.response.body_mutation.streamed_response for reply in bodies]
    assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    return place, b"".join(piece.body for piece in pieces), replies[1 + len(bodies) :]


CASES = [
    pytest.param(
        (asked(objective="four"), request_body(GENERATE, end=True)),
        LOADED,
        ("192.168.1.2:8000", GENERATE),
        id="lower-queue-and-kv-cache",
    ),
    pytest.param(
        (asked("Embed", "four"), request_body(EMBED, end=True)),
        LOADED,
        ("192.168.1.2:8000", EMBED),
        id="embed",
    ),
    pytest.param(
        (asked(objective="four"), request_body(STREAM, end=True)),
        LOADED,
        ("192.168.1.2:8000", STREAM),
        id="streaming",
    ),
    pytest.param(
        (asked(), request_body(GENERATE, end=True)),
        [pod(0, 6, 0.2), pod(1, 0, 0.85), pod(2, 10, 0.9)],
        ("192.168.1.1:8000", GENERATE),
        id="nothing-is-shed-by-default",
    ),
    pytest.param(
        (asked(), request_body(GENERATE[:20]), request_body(GENERATE[20:], end=True)),
        [pod(0, 4, 0.2), pod(1, 4, 0.85)],
        ("192.168.1.1:8000", GENERATE),
        id="body-in-two-pieces",
    ),
]


@pytest.mark.parametrize(("messages", "pods", "expected"), CASES)
async def test_a_call_goes_where_it_should_as_it_came(messages, pods, expected):
    async with hermetic(pods, config=CONFIG, priorities={"four": 4}) as house:
        place, body, _ = routed(await house.ask(*messages))

        assert (place, body) == expected


async def test_a_call_is_counted_without_a_model():
    async with hermetic(LOADED, config=CONFIG, priorities={"four": 4}) as house:
        await house.ask(asked(objective="four"), request_body(GENERATE, end=True))
        labels = 'model_name="",priority="4",target_model_name=""'

        assert house.sample(f"inference_objective_request_total{{{labels}}}") == 1
        assert house.sample('inference_pool_ready_pods{name="vllm-qwen3-32b-pool"}') == 3


async def test_a_second_call_with_the_same_ids_follows_the_first():
    async with hermetic([pod(n, 0, 0.1) for n in range(8)], config=CONFIG) as house:
        ids = {"input_ids": list(range(1000))}
        call = framed(GenerateRequest(tokenized=ids).SerializeToString())
        first, *_ = routed(await house.ask(asked(), request_body(call, end=True)))
        second, *_ = routed(await house.ask(asked(), request_body(call, end=True)))

        assert second == first


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        ([f"192.168.1.{i}:8000" for i in (1, 2, 3)], "192.168.1.2:8000"),
        (["192.168.1.3:8000"], "192.168.1.3:8000"),
    ],
    ids=["best", "only-one"],
)
async def test_only_the_gateways_subset_is_chosen_from(hint, expected):
    async with hermetic(FOR_SUBSETS, config=CONFIG) as house:
        place, *_ = routed(await house.ask(asked(), request_body(GENERATE, end=True, hint=hint)))

        assert place == expected


REFUSED = [
    pytest.param(
        (asked(), request_body(b"no healthy upstream", end=True)),
        [pod(0, 0, 0.2)],
        (400, 3, ""),
        id="body-that-is-no-message",
    ),
    pytest.param(
        (asked(path="unsupportedMethod"), request_body(GENERATE, end=True)),
        [pod(0, 0, 0.2)],
        (400, 3, ""),
        id="method-nobody-reads",
    ),
    pytest.param(
        (asked(), request_body(GENERATE, end=True)),
        [],
        (503, 14, "no-endpoints"),
        id="no-endpoint",
    ),
    pytest.param((asked(end=True),), [], (400, 3, ""), id="no-message"),
    pytest.param(
        (asked(), request_body(GENERATE, end=True, hint=["192.168.1.99:8000"])),
        FOR_SUBSETS,
        (503, 14, "no-endpoints"),
        id="subset-matches-none",
    ),
]


@pytest.mark.parametrize(("messages", "pods", "expected"), REFUSED)
async def test_a_refusal_is_a_grpc_status_and_a_plain_message(messages, pods, expected):
    async with hermetic(pods, config=CONFIG) as house:
        (reply,) = await house.ask(*messages)
        refusal = reply.immediate_response
        headers = headers_set(refusal.headers)
        reason = headers.get("x-llm-d-request-dropped-reason", "")

        assert (refusal.status.code, refusal.grpc_status.status, reason) == expected
        assert "content-type" not in headers
        assert refusal.body.decode().isprintable()
        assert not refusal.body.startswith(b"{")


def answer(**fields) -> bytes:
    return framed(GenerateResponse(**fields).SerializeToString())


CHUNK = answer(chunk={"token_ids": [4, 5], "prompt_tokens": 7, "completion_tokens": 2})
COMPLETE = answer(complete={"prompt_tokens": 7, "completion_tokens": 10})
RESPONSES = [
    pytest.param(GENERATE, [COMPLETE[:6], COMPLETE[6:]], (7, 10), id="two-halves"),
    pytest.param(GENERATE, [b"no healthy upstream"], (0, 0), id="no-grpc"),
    pytest.param(GENERATE, [COMPLETE], (7, 10), id="usage"),
    pytest.param(STREAM, [CHUNK, COMPLETE], (7, 10), id="stream"),
]


@pytest.mark.parametrize(("call", "pieces", "tokens"), RESPONSES)
async def test_a_response_passes_ends_by_trailers_and_is_counted(call, pieces, tokens):
    async with hermetic([pod(0, 4, 0.2)], config=CONFIG) as house:
        replies = await house.ask(
            asked(),
            request_body(call, end=True),
            response_headers(200, **GRPC),
            *map(response_body, pieces),
            response_trailers(),
        )
        _, _, (header, *bodies, trailers) = routed(replies)
        streamed = [b.response_body.response.body_mutation.streamed_response for b in bodies]
        labels = '{model_name="",target_model_name=""}'

        assert header.HasField("response_headers")
        assert [(piece.body, piece.end_of_stream) for piece in streamed] == [
            (piece, False) for piece in pieces
        ]
        assert trailers.HasField("response_trailers")
        assert tokens == tuple(
            house.sample(f"inference_objective_{name}_tokens_sum{labels}")
            for name in ("input", "output")
        )
