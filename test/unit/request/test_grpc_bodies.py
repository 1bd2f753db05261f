"""gRPC bodies: requests read, responses counted, whatever a client or the network makes of them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.requests import head, intake, response_head

from epp.domain.request import Dialect, Item, Request
from epp.domain.response import ResponseHead, Usage
from epp.errors import BadRequest, TooLarge
from epp.plugins.parsers.passthrough import PassthroughParser
from epp.plugins.parsers.vertexai import VertexAIParser
from epp.plugins.parsers.vllmgrpc import VllmGrpcParser
from epp.plugins.parsers.vllmhttp import VllmHttpParser
from epp.request.gen.httpbody_pb2 import HttpBody
from epp.request.gen.prediction_service_pb2 import RawPredictRequest
from epp.request.gen.vllm_engine_pb2 import EmbedRequest, GenerateRequest, GenerateResponse
from epp.request.grpc import FrameCutter, framed, status_of
from epp.request.reader import RequestReader
from epp.request.response import response_body_for
from epp.request.rewrite import rewrite_model

GENERATE = "/vllm.grpc.engine.VllmEngine/Generate"
EMBED = "/vllm.grpc.engine.VllmEngine/Embed"
CHAT = "/google.cloud.aiplatform.v1beta1.PredictionService/ChatCompletions"
RAW = "/google.cloud.aiplatform.v1.PredictionService/RawPredict"
IDS = {"tokenized": {"original_text": "hello", "input_ids": [1, 2, 2**32 - 1]}}


def read(body, path=GENERATE):
    parsers = (VllmGrpcParser(), VertexAIParser(), PassthroughParser())
    return RequestReader(parsers).read(intake(body, path), "r1", 5.0)


def generate(**fields) -> bytes:
    return framed(GenerateRequest(request_id="x", **fields).SerializeToString())


def vertex(inner: bytes) -> bytes:
    call = RawPredictRequest(endpoint="projects/p", http_body=HttpBody(data=inner))
    return framed(call.SerializeToString())


def test_generate_gives_ids_stream_and_limit_and_no_model():
    request = read(generate(**IDS, stream=True, sampling_params={"max_tokens": 100}))

    assert list(request.prompts[0].token_ids) == [1, 2, 2**32 - 1]
    assert (request.stream, request.max_output_tokens) == (True, 100)
    assert (request.model, request.dialect) == ("", Dialect.GRPC)


def test_generate_without_a_limit_has_none():
    assert read(generate(**IDS)).max_output_tokens is None


@pytest.mark.parametrize(
    "fields", [{"text": "hello"}, {"tokenized": {"original_text": "hello"}}], ids=["text", "ids"]
)
def test_text_stands_in_where_there_are_no_ids(fields):
    assert read(generate(**fields)).prompts[0].text == b"hello"


def test_images_are_told_apart_in_the_order_they_stand():
    def media(name, start):
        return {"mm_hashes": [name], "mm_placeholders": [{"offset": start, "length": 4}]}

    body = generate(**IDS, mm_inputs=media("late", 9), extra_mm_inputs=[media("early", 2)])

    assert read(body).prompts[0].items == (Item("early", 2, 4), Item("late", 9, 4))


def test_images_beside_token_ids_over_http_are_told_apart_too():
    body = {
        "token_ids": [1, 2, 3],
        "features": {
            "mm_hashes": {"image": ["abc"]},
            "mm_placeholders": {"image": [{"offset": 1, "length": 2}]},
            "kwargs_data": {"image": [None]},
        },
    }
    reader = RequestReader((VllmHttpParser(),))

    request = reader.read(intake(body, "/inference/v1/generate"), "r1", 5.0)

    assert request.prompts[0].items == (Item("abc", 1, 2),)


def test_embed_reads_token_ids():
    body = framed(EmbedRequest(**IDS).SerializeToString())

    assert read(body, EMBED).prompt_tokens == 3


def test_a_method_that_runs_no_prompt_passes():
    request = read(framed(b""), "/vllm.grpc.engine.VllmEngine/HealthCheck")

    assert (request.kind, request.prompts) == ("passthrough", ())


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"abc", "no gRPC message"),
        (b"no healthy upstream", "not one gRPC message"),
        (b"\1" + generate(**IDS)[1:], "compressed"),
        (generate(**IDS)[:-1], "not one gRPC message"),
        (generate(**IDS) * 2, "not one gRPC message"),
        (framed(b"\xff\xff\xff"), "not the protobuf message"),
        (framed(b""), "input: missing"),
        (generate(text=""), "input: missing"),
    ],
    ids=["short", "text", "compressed", "cut", "two", "not-protobuf", "empty", "no-input"],
)
def test_what_is_no_call_is_refused_and_says_why(body, told):
    with pytest.raises(BadRequest, match=told):
        read(body)


@given(st.binary(max_size=64))
def test_any_body_is_read_or_refused(body):
    for path in (GENERATE, EMBED, CHAT, RAW):
        try:
            read(framed(body), path)
        except BadRequest:
            continue


@pytest.mark.parametrize(
    ("path", "inner", "kind", "model"),
    [
        (CHAT, b'{"model":"m","messages":[{"role":"user","content":"x"}]}', "vertex_chat", "m"),
        (RAW, b'{"messages":[{"role":"user","content":"x"}]}', "vertex_chat", ""),
        (RAW, b'{"prompt":"hello","model":"m"}', "vertex_completions", "m"),
        (RAW, b'{"instances":[1]}', "vertex_raw", ""),
        (RAW, b"no json", "vertex_raw", ""),
    ],
    ids=["chat", "raw-chat", "raw-completion", "raw-other", "raw-bytes"],
)
def test_the_json_inside_of_a_prediction_is_read(path, inner, kind, model):
    request = read(vertex(inner), path)

    assert (request.kind, request.model) == (kind, model)


def test_a_chat_without_messages_is_refused_by_its_field():
    with pytest.raises(BadRequest, match="messages"):
        read(vertex(b'{"model":"m"}'), CHAT)


def deep(levels: int, field: bytes) -> bytes:
    """A body whose extra lists stand so many levels deep, the object around them counted."""
    lists = levels - 1
    return b'{"model":"m",%s,"more":%s%s}' % (field, b"[" * lists, b"]" * lists)


@pytest.mark.parametrize(
    ("path", "field"),
    [(CHAT, b'"messages":[{"role":"user","content":"x"}]'), (RAW, b'"prompt":"x"')],
    ids=["chat", "raw-completion"],
)
def test_the_json_inside_of_a_prediction_may_be_as_deep_as_any(path, field):
    assert read(vertex(deep(64, field)), path).model == "m"
    for levels in (65, 200):
        with pytest.raises(TooLarge, match="JSON nested deeper than 64"):
            read(vertex(deep(levels, field)), path)


def test_the_model_inside_of_a_prediction_is_rewritten_and_nothing_else():
    changed = rewrite_model(vertex(b'{"model":"m","big":9007199254740993}'), "longer-name")

    assert changed == vertex(b'{"model":"longer-name","big":9007199254740993}')


# -- responses ----------------------------------------------------------------------------------


def answer(**fields) -> bytes:
    return framed(GenerateResponse(**fields).SerializeToString())


CHUNK = answer(chunk={"token_ids": [4, 5], "prompt_tokens": 7, "completion_tokens": 2})
COMPLETE = answer(complete={"prompt_tokens": 7, "completion_tokens": 10, "cached_tokens": 3})
OTHER = answer(complete={"prompt_tokens": 7, "completion_tokens": 5, "index": 1})


def flow(kind, body, cuts=()):
    """What comes out, and the usage read, with `body` cut at `cuts`."""
    request = Request(id="r", head=head(GENERATE), kind=kind)
    through = response_body_for(request, response_head("application/grpc+proto"), True)
    assert through is not None
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    out = [through.feed(body[a:b], False) for a, b in itertools.pairwise(edges)]
    out.append(through.feed(b"", True))
    return b"".join(out), through.usage


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (COMPLETE, Usage(7, 10, 3)),
        (CHUNK + CHUNK + COMPLETE, Usage(7, 10, 3)),
        (CHUNK + CHUNK, Usage(7, 4, 0)),
        (COMPLETE + OTHER, Usage(7, 15, 3)),
        (b"\1" + CHUNK[1:] + COMPLETE, Usage(7, 10, 3)),
        (framed(b"\xff") + COMPLETE, Usage(7, 10, 3)),
        (b"no healthy upstream", None),
        (b"", None),
    ],
    ids=["one", "stream", "cut-short", "two-outputs", "compressed", "broken", "text", "nothing"],
)
def test_a_response_tells_its_usage_and_passes(body, usage):
    assert flow("vllm_grpc_generate", body) == (body, usage)


@given(st.lists(st.integers(0, 200), max_size=6))
def test_a_grpc_response_reads_the_same_at_any_cut(cuts):
    body = CHUNK + OTHER + COMPLETE

    assert flow("vllm_grpc_generate", body, cuts) == (body, Usage(7, 15, 3))


def test_a_message_too_long_to_hold_is_skipped_and_not_kept():
    cutter = FrameCutter(most=100)
    long, held = framed(b"x" * 10_000), []
    for start in range(0, len(long), 64):
        assert list(cutter.feed(long[start : start + 64])) == []
        held.append(len(cutter._held))

    assert max(held) <= 105
    assert list(cutter.feed(framed(b"next"))) == [b"next"]


@pytest.mark.parametrize(
    "pieces",
    [
        [b'{"usage":{"prompt_tokens":7,"completion_tokens":10}}'],
        [b'data: {"usage":{"prompt_tok', b'ens":7,"completion_tokens":10}}\n\ndata: [DONE]\n\n'],
    ],
    ids=["json", "events"],
)
def test_the_json_inside_of_an_answer_tells_its_usage(pieces):
    body = b"".join(framed(HttpBody(data=piece).SerializeToString()) for piece in pieces)

    assert flow("vertex_chat", body) == (body, Usage(7, 10, None))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="none"),
        pytest.param({"grpc-status": "0"}, 200, id="ok"),
        pytest.param({"grpc-status": "1"}, 499, id="cancelled"),
        pytest.param({"grpc-status": "2"}, 500, id="unknown"),
        pytest.param({"grpc-status": "3"}, 400, id="invalid-argument"),
        pytest.param({"grpc-status": "4"}, 504, id="deadline-exceeded"),
        pytest.param({"grpc-status": "8"}, 429, id="resource-exhausted"),
        pytest.param({"grpc-status": "12"}, 501, id="unimplemented"),
        pytest.param({"grpc-status": "13"}, 500, id="internal"),
        pytest.param({"grpc-status": "14"}, 503, id="unavailable"),
        pytest.param({"grpc-status": "15"}, 500, id="data-loss"),
        pytest.param({"grpc-status": "17"}, 200, id="no-status"),
        pytest.param({"grpc-status": "x"}, 200, id="no-number"),
    ],
)
def test_an_answer_without_messages_has_its_status_among_the_headers(headers, status):
    assert status_of(ResponseHead(200, headers)) == status
