"""Bodies become requests: by path, within limits, with errors that name the field."""

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.requests import intake

from epp.domain.request import Dialect
from epp.errors import BadRequest, TooLarge
from epp.plugins.parsers.anthropic import AnthropicParser
from epp.plugins.parsers.openai import OpenAIParser
from epp.plugins.parsers.passthrough import PassthroughParser
from epp.plugins.parsers.sglanghttp import SGLangHttpParser
from epp.plugins.parsers.vllmhttp import VllmHttpParser
from epp.request.limits import DEFAULT_LIMITS, Limits
from epp.request.reader import RequestReader, check_model

PARSERS = (
    OpenAIParser(),
    AnthropicParser(),
    VllmHttpParser(),
    SGLangHttpParser(),
    PassthroughParser(),
)
USER = {"role": "user", "content": "hello"}
SECRET = "a very private prompt"


def read(body, path="/v1/chat/completions", limits=DEFAULT_LIMITS, **headers):
    return RequestReader(PARSERS, limits).read(intake(body, path, **headers), "r1", 5.0)


def refusal(kind, body, path="/v1/chat/completions", **more) -> str:
    with pytest.raises(kind) as caught:
        read(body, path, **more)
    return caught.value.message


CHAT = {"model": "m", "messages": [USER]}
TEXT = {"model": "m", "prompt": "hello"}


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/chat/completions", CHAT, "chat"),
        ("/v1/chat/completions?a=b/completions", CHAT, "chat"),
        ("/pools/a/v1/chat/completions/", CHAT, "chat"),
        ("/v1/completions", TEXT, "completions"),
        ("/v1/embeddings", {"input": "x"}, "embeddings"),
        ("/v1/responses", {"input": "x"}, "responses"),
        ("/v1/conversations", {"items": [1]}, "conversations"),
        ("/v1/images/generations", {"prompt": "x"}, "images"),
        ("/v1/chat/completions/render", CHAT, "chat_render"),
        ("/v1/completions/render", TEXT, "completions_render"),
        ("/v1/messages", CHAT, "messages"),
        ("/v1/messages/count_tokens", CHAT, "count_tokens"),
        ("/inference/v1/generate", {"token_ids": [1]}, "generate"),
        ("/generate", {"text": "x"}, "sglang_generate"),
        ("/tokenize", {"prompt": "x"}, "tokenize"),
        ("/foo/my-completions", b"\xff not json", "passthrough"),
        ("/v1/chat/completions/other", b"\xff not json", "passthrough"),
        ("/", b"\xff not json", "passthrough"),
    ],
)
def test_longest_ending_of_whole_segments_chooses_the_parser(path, body, kind):
    assert read(body, path).kind == kind


def test_first_parser_of_the_configuration_wins_a_tie():
    class Mine(OpenAIParser):
        pass

    mine, theirs = Mine(), OpenAIParser()
    reader = RequestReader((mine, theirs))

    assert reader._routes.parser("/v1/completions") is mine


def test_path_without_a_parser_is_refused():
    with pytest.raises(BadRequest, match="path"):
        RequestReader((OpenAIParser(),)).read(intake(b"x", "/other"), "r1", 0.0)


def test_missing_path_means_completions():
    request = read({"model": "m", "prompt": "p"}, path="")

    assert request.kind == "completions"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat%2Fcompletions", "chat"),
        ("/v1/%63hat/completions", "chat"),
        ("/v1;a=b/chat/completions;c?d=/x", "chat"),
        ("/v1/chat/completions%3Fx", "passthrough"),
        ("/v1/chat/completions%zz", "passthrough"),
        ("/v1/chat/%ff", "passthrough"),
    ],
)
def test_a_parser_is_chosen_by_the_path_as_a_server_reads_it(path, kind):
    request = read(CHAT, path)

    assert (request.kind, request.headers[":path"]) == (kind, path)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
def test_bodyless_methods_are_not_read(method):
    assert read(b"", "/v1/chat/completions", method=method).kind == "passthrough"


def test_an_empty_post_is_refused_where_a_body_is_read():
    assert refusal(BadRequest, b"").startswith("body: empty")


def test_an_empty_post_passes_where_no_body_is_read():
    assert read(b"", "/other").kind == "passthrough"


def test_a_body_that_is_not_shown_is_not_missed():
    hidden = msgspec.structs.replace(intake(b""), body_seen=False)

    assert RequestReader(PARSERS).read(hidden, "r1", 0.0).kind == "passthrough"


def test_a_request_carries_what_its_chat_body_says():
    request = read({**CHAT, "stream": True, "max_tokens": 9, "cache_salt": "s"})

    assert (request.model, request.target_model, request.stream) == ("m", "m", True)
    assert (request.max_output_tokens, request.cache_salt) == (9, "s")
    assert (request.id, request.arrived, request.dialect) == ("r1", 5.0, Dialect.OPENAI)


def test_anthropic_paths_speak_anthropic():
    assert read(CHAT, "/v1/messages").dialect is Dialect.ANTHROPIC


@pytest.mark.parametrize(
    ("path", "body", "cap"),
    [
        ("/v1/chat/completions", {**CHAT, "max_completion_tokens": 3, "max_tokens": 5}, 3),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 16.0}, 16),
        ("/v1/chat/completions", {**CHAT, "max_tokens": None}, None),
        ("/v1/chat/completions", {**CHAT, "max_tokens": -1}, None),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 10**30}, 2**31 - 1),
        ("/v1/chat/completions", b'{"messages":[1],"max_tokens":1e308}', 2**31 - 1),
        ("/v1/completions", {**TEXT, "max_tokens": 4}, 4),
        ("/v1/responses", {"input": "x", "max_output_tokens": 5}, 5),
        ("/inference/v1/generate", {"token_ids": [1], "sampling_params": {"max_tokens": 6}}, 6),
        ("/generate", {"text": "x", "sampling_params": {"max_new_tokens": 7}}, 7),
    ],
)
def test_output_cap(path, body, cap):
    assert read(body, path).max_output_tokens == cap


@pytest.mark.parametrize(
    ("prompt", "texts", "ids"),
    [
        ("a\nü", [("a\nü").encode()], [None]),
        (["a", "b"], [b"a", b"b"], [None, None]),
        ("a b", [b"a b"], [None]),
        ([1, 2, 3], [b""], [[1, 2, 3]]),
        ([0, 2**32 - 1], [b""], [[0, 2**32 - 1]]),
        ([[1, 2], [3]], [b"", b""], [[1, 2], [3]]),
    ],
)
def test_completions_prompts(prompt, texts, ids):
    prompts = read({"model": "m", "prompt": prompt}, "/v1/completions").prompts

    assert [p.text for p in prompts] == texts
    assert [p.token_ids and list(p.token_ids) for p in prompts] == ids


def test_prompt_embeds_stand_in_for_a_prompt():
    request = read({"model": "m", "prompt_embeds": "AAAA"}, "/v1/completions")

    assert request.prompts == ()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_turn_is_a_prefix_of_the_next(path, indent):
    def turn(*messages):
        body = {"model": "m", "tools": [{"name": "t"}], "messages": messages}
        return read(json.dumps(body, indent=indent).encode(), path).prompts[0].text

    first = turn(USER)

    assert turn(USER, {"role": "assistant", "content": "]"}, USER).startswith(first)


def test_chat_prompt_is_tools_then_messages():
    body = b'{"messages": [{"role":"user"} ], "model":"m", "tools": [ 1]}'

    assert read(body).prompts[0].text == b'[ 1][{"role":"user"}'


def test_anthropic_prompt_is_tools_system_messages():
    body = b'{"messages":[1],"system":"s","tools":[2]}'

    assert read(body, "/v1/messages").prompts[0].text == b'[2]"s"[1'


def test_of_equal_keys_the_last_wins():
    assert read(b'{"model":"a","messages":[1],"model":"b"}').model == "b"


def test_what_runs_no_prompt_has_none():
    assert read(CHAT, "/v1/messages/count_tokens").prompts == ()


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/chat/completions", {"model": "m"}, "messages"),
        ("/v1/chat/completions", {"model": "m", "messages": []}, "messages"),
        ("/v1/chat/completions", {"model": "m", "messages": None}, "messages"),
        ("/v1/chat/completions", {"model": "m", "messages": SECRET}, "messages"),
        ("/v1/chat/completions", {"model": 7, "messages": [SECRET]}, "model"),
        ("/v1/chat/completions", {**CHAT, "stream": SECRET}, "stream"),
        ("/v1/chat/completions", {**CHAT, "max_tokens": SECRET}, "max_tokens"),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 1.5}, "max_tokens"),
        ("/v1/chat/completions", b'{"messages":[1],"max_tokens":1e999}', "max_tokens"),
        (
            "/v1/chat/completions",
            b'{"messages":[1],"max_tokens":' + b"9" * 9_000 + b"}",
            "max_tokens",
        ),
        ("/v1/chat/completions", [SECRET], "body"),
        ("/v1/chat/completions", SECRET.encode(), "body"),
        ("/v1/chat/completions", b'{"messages":["' + SECRET.encode(), "body"),
        ("/v1/chat/completions", b'{"messages":["\xff' + SECRET.encode() + b'"]}', "body"),
        ("/v1/chat/completions", b"\xef\xbb\xbf" + json.dumps(CHAT).encode(), "body"),
        ("/v1/completions", {"model": "m"}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": []}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": [1, SECRET]}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": [SECRET, 1]}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": [-1]}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": [2**70]}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": [2**32]}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": [1, 1.5]}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": [[2**32]]}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": ["a", [1]]}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": 7}, "prompt"),
        ("/v1/completions", b'{"prompt":[' + b"9" * 9_000 + b"]}", "prompt"),
        ("/v1/completions", {"model": "m", "prompt": [[]]}, "prompt"),
        ("/v1/completions", {"model": "m", "prompt": {SECRET: SECRET}}, "prompt"),
        ("/v1/embeddings", {"model": "m"}, "input"),
        ("/v1/responses", {"model": "m", "input": ""}, "input"),
        ("/v1/conversations", {"items": []}, "items"),
        ("/v1/messages", {"model": "m"}, "messages"),
        ("/inference/v1/generate", {"token_ids": []}, "token_ids"),
        ("/generate", {}, "input_ids"),
        ("/tokenize", {}, "prompt"),
        ("/v1/chat/completions", {"model": "m" * 257, "messages": [1]}, "model"),
    ],
)
def test_an_unreadable_body_names_its_field_and_shows_nothing_of_itself(path, body, field):
    message = refusal(BadRequest, body, path)

    assert message.startswith(field)
    assert SECRET not in message


@pytest.mark.parametrize(
    "limits", [Limits(body_bytes=10), Limits(header_bytes=10)], ids=["body", "headers"]
)
def test_over_a_size_is_too_large(limits):
    assert "more than 10 bytes" in refusal(TooLarge, CHAT, limits=limits)


@pytest.mark.parametrize("one", ["a, b", 'say \\"a\\", "b"', "\\\\", [1, 2], [0]], ids=repr)
def test_prompts_up_to_the_limit_pass_and_one_more_is_too_large(one):
    most = DEFAULT_LIMITS.prompts

    assert len(read({"prompt": [one] * most}, "/v1/completions").prompts) == most
    message = refusal(TooLarge, {"prompt": [one] * (most + 1)}, "/v1/completions")
    assert message.startswith(f"prompt: more than {most} prompts")


def test_a_limit_of_prompts_is_not_one_of_token_ids():
    assert read({"prompt": [[7] * 5_000] * 2}, "/v1/completions").prompt_tokens == 10_000


def deep(levels: int) -> bytes:
    return b'{"messages":' + b"[" * levels + b"1" + b"]" * levels + b"}"


def test_depth_up_to_the_limit_passes():
    assert read(deep(7), limits=Limits(json_depth=8)).kind == "chat"


@pytest.mark.parametrize("levels", [8, 500, 100_000])
def test_depth_over_the_limit_is_too_large(levels):
    assert "nested" in refusal(TooLarge, deep(levels), limits=Limits(json_depth=8))


def test_depth_of_a_body_that_is_not_read_does_not_matter():
    assert read(deep(500), "/other").kind == "passthrough"


@pytest.mark.parametrize("name", ["x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"])
def test_rewrite_header_names_the_target(name):
    request = read(CHAT, **{name.replace("-", "_"): "other"})

    assert (request.model, request.target_model) == ("m", "other")


@pytest.mark.parametrize(("path", "body"), [("/other", b"x"), ("/generate", {"text": "x"})])
def test_rewrite_header_does_not_touch_what_has_no_place_for_a_model(path, body):
    assert read(body, path, x_llm_d_model_name_rewrite="other").target_model == ""


def test_objective_and_fairness_id_come_from_headers():
    request = read(
        CHAT, x_gateway_inference_objective="gold", x_llm_d_inference_fairness_id="team-a"
    )

    assert (request.objective, request.fairness_id) == ("gold", "team-a")


@pytest.mark.parametrize("value", ["x" * 257, "a\x07b", "a\x7fb"], ids=["long", "bell", "delete"])
@pytest.mark.parametrize(
    "name",
    ["x-llm-d-model-name-rewrite", "x-llm-d-inference-objective", "x-llm-d-inference-fairness-id"],
)
def test_a_bad_control_header_is_named(name, value):
    assert name in refusal(BadRequest, CHAT, **{name.replace("-", "_"): value})


def test_a_model_is_needed_after_rewriting():
    with pytest.raises(BadRequest, match="model: not found in request body"):
        check_model(read({"prompt": "hello world"}, "/v1/completions"))


def test_what_names_no_model_by_design_needs_none():
    assert check_model(read({"text": "x"}, "/generate")) is None


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda each: (
            st.lists(each, max_size=3)
            | st.dictionaries(
                st.sampled_from(["model", "messages", "prompt", "stream", "max_tokens", "x"]), each
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/generate", "/tokenize"]
    ),
)
def test_any_body_is_read_or_refused(body, path):
    with contextlib.suppress(BadRequest, TooLarge):
        assert read(body, path).kind


def test_the_configured_number_of_prompts_counts():
    body = {"model": "m", "prompt": ["a", "b", "c"]}

    assert len(read(body, "/v1/completions", limits=Limits(prompts=3)).prompts) == 3
    assert "more than 2 prompts" in refusal(
        TooLarge, body, "/v1/completions", limits=Limits(prompts=2)
    )
