"""Response bytes on their way: usage read, the client's model put back, at any cut."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.requests import head, response_head

from epp.domain.headers import NO_CHANGES
from epp.domain.request import Request
from epp.domain.response import ResponseHead, Usage
from epp.request.response import EventBody, JsonBody, response_body_for

RENAMED = Request(id="r", head=head(), kind="chat", model="mine", target_model="theirs")
PLAIN = Request(id="r", head=head(), kind="chat", model="mine", target_model="mine")
SGLANG = Request(id="r", head=head("/generate"), kind="sglang_generate")


def event(value, eol="\n") -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}{eol}{eol}".encode()


def chunk(text="é", **more):
    return {"id": "c", "model": "theirs", "choices": [{"delta": {"content": text}}], **more}


def flow(request, body: bytes, media="text/event-stream", cuts=(), wants_usage=True):
    """The bytes that came out and the usage read, with `body` cut at `cuts`."""
    through = response_body_for(request, response_head(media), wants_usage)
    assert through is not None
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    out = [through.feed(body[a:b], False) for a, b in itertools.pairwise(edges)]
    out.append(through.feed(b"", True))
    return b"".join(out), through.usage


CHAT_STREAM = (
    event(chunk('say "model":"theirs", {'))
    + event(chunk(usage=None))
    + event(chunk(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 10}))
    + b"data: [DONE]\n\n"
)
CONTINUOUS = event(chunk(usage={"prompt_tokens": 7, "completion_tokens": 1})) + event(
    chunk(usage={"prompt_tokens": 7, "completion_tokens": 2})
)
MESSAGES_STREAM = (
    b"event: message_start\n"
    + event(
        {
            "type": "message_start",
            "message": {
                "model": "theirs",
                "usage": {"input_tokens": 25, "cache_read_input_tokens": 9, "output_tokens": 1},
            },
        },
        eol="\r\n",
    )
    + event({"type": "content_block_delta", "delta": {"text": "theirs usage"}})
    + event({"type": "message_delta", "usage": {"output_tokens": 15}})
)
RESPONSES_STREAM = event({"type": "response.created", "response": {"model": "theirs"}}) + event(
    {
        "type": "response.completed",
        "response": {
            "model": "theirs",
            "usage": {
                "input_tokens": 3,
                "input_tokens_details": {"cached_tokens": 2},
                "output_tokens": 4,
            },
        },
    }
)
SGLANG_STREAM = event(
    {"text": "a", "meta_info": {"prompt_tokens": 5, "completion_tokens": 1, "cached_tokens": 0}}
) + event(
    {"text": "ab", "meta_info": {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 4}}
)
JSON_BODY = json.dumps(
    chunk(
        "theirs",
        usage={
            "prompt_tokens": 7,
            "completion_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    ),
).encode()

STREAMS = {
    "chat": (RENAMED, CHAT_STREAM, Usage(7, 10)),
    "continuous": (RENAMED, CONTINUOUS, Usage(7, 2)),
    "messages": (RENAMED, MESSAGES_STREAM, Usage(25, 15, 9)),
    "responses": (RENAMED, RESPONSES_STREAM, Usage(3, 4, 2)),
    "sglang": (SGLANG, SGLANG_STREAM, Usage(5, 2, 4)),
    "no last line end": (RENAMED, CHAT_STREAM[: CHAT_STREAM.index(b"\n\ndata: [")], Usage(7, 10)),
}
by_name = pytest.mark.parametrize("name", STREAMS)


@by_name
@given(cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_a_stream_reads_the_same_at_any_cut(name, cuts):
    request, body, usage = STREAMS[name]

    whole, whole_usage = flow(request, body)

    assert flow(request, body, cuts=cuts) == (whole, whole_usage)
    assert whole_usage == usage


@by_name
def test_a_stream_read_byte_by_byte_reads_the_same(name):
    request, body, _ = STREAMS[name]

    assert flow(request, body, cuts=range(len(body))) == flow(request, body)


def objects(stream: bytes):
    lines = stream.decode().splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    return [json.loads(each) for each in data]


@pytest.mark.parametrize(
    "body", [CHAT_STREAM, MESSAGES_STREAM, RESPONSES_STREAM], ids=["chat", "messages", "responses"]
)
def test_events_name_the_clients_model_and_say_the_same(body):
    out, _ = flow(RENAMED, body)

    expected = objects(body)
    for each in expected:
        for holder in (each, each.get("message", {}), each.get("response", {})):
            if "model" in holder:
                holder["model"] = "mine"
    assert objects(out) == expected
    assert out.count(b"\n") == body.count(b"\n")


@given(cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_a_json_body_reads_the_same_at_any_cut(cuts):
    out, usage = flow(RENAMED, JSON_BODY, "application/json; charset=utf-8", cuts)

    assert json.loads(out) == {**json.loads(JSON_BODY), "model": "mine"}
    assert usage == Usage(7, 10, 4)


def test_usage_alone_never_holds_a_byte_back():
    through = response_body_for(PLAIN, response_head("text/event-stream"), True)

    assert through.feed(b"data: {", False) == b"data: {"


def test_events_are_passed_as_soon_as_their_line_is_whole():
    through = response_body_for(RENAMED, response_head("text/event-stream"), False)

    assert json.loads(through.feed(event(chunk()) + b"data: {", False)[6:])["model"] == "mine"


@pytest.mark.parametrize("body", [b"no healthy upstream", b'{"choices": [{"model": "theirs"}]}'])
def test_what_names_no_model_passes_as_it_is(body):
    assert flow(RENAMED, body, "application/json") == (body, None)


def test_usage_at_the_end_of_a_long_body_is_found():
    answer = chunk("x" * 700_000 + '"usage":{}', usage={"prompt_tokens": 1, "completion_tokens": 2})
    body = json.dumps({**answer, "kv": None, "more": [{"usage": {"prompt_tokens": 9}}]}).encode()

    _, usage = flow(PLAIN, body, "application/json", cuts=range(0, len(body), 16_384))

    assert usage == Usage(1, 2)


def test_a_line_too_long_to_hold_passes_untouched_and_the_rest_is_read():
    long = event(chunk("x" * 1_100_000, usage={"prompt_tokens": 99, "completion_tokens": 99}))
    body = long + CHAT_STREAM

    for cuts in ((), range(0, len(body), 65_536), [len(long) - 2], [len(long) - 1]):
        out, usage = flow(RENAMED, body, cuts=cuts)
        assert out.startswith(long)
        assert (out.count(b'"model": "mine"') + out.count(b'"model":"mine"'), usage) == (
            3,
            Usage(7, 10),
        )


def test_a_json_body_that_hides_its_model_passes_untouched():
    body = json.dumps({"choices": "x" * 1_200_000, "model": "theirs"}).encode()

    assert flow(RENAMED, body, "application/json", cuts=range(0, len(body), 65_536))[0] == body


@pytest.mark.parametrize(
    "report",
    [
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": "7"},
        {"prompt_tokens": 2**60},
        [],
        "usage",
    ],
)
def test_a_report_that_makes_no_sense_says_nothing(report):
    assert flow(PLAIN, event(chunk(usage=report)))[1] is None


@pytest.mark.parametrize(
    ("request_", "media", "encoding", "wants_usage"),
    [
        (PLAIN, "application/json", "identity", False),
        (RENAMED, "application/json", "gzip", True),
        (RENAMED, "image/png", "identity", True),
    ],
    ids=["nothing wanted", "compressed", "no text"],
)
def test_what_cannot_or_need_not_be_read_is_not_fed(request_, media, encoding, wants_usage):
    head_ = response_head(media, content_encoding=encoding)

    assert response_body_for(request_, head_, wants_usage) is None


@pytest.mark.parametrize("media", ["text/event-stream", "application/json"])
@given(st.lists(st.integers(0, 10_000), max_size=6))
def test_where_nothing_may_be_held_back_each_piece_passes_as_long_as_it_is(media, cuts):
    body = CHAT_STREAM if media == "text/event-stream" else json.dumps(chunk()).encode()
    head_ = ResponseHead(200, {"content-type": media}, may_hold=False)
    through = response_body_for(RENAMED, head_, True)
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]

    for a, b in itertools.pairwise(edges):
        passed = through.feed(body[a:b], False)
        assert passed.replace(b'"mine"', b'"theirs"') == body[a:b]
    assert through.feed(b"", True) == b""


@pytest.mark.parametrize(
    ("media", "pieces", "renamed"),
    [
        ("text/event-stream", [CHAT_STREAM], 3),
        ("text/event-stream", [event(chunk()), event(chunk())[:-1], b"\n"], 2),
        ("text/event-stream", [event(chunk())[:9], event(chunk())[9:] + event(chunk())], 1),
        ("application/json", [b"", b'{"model":"theirs","a":', b"1}"], 1),
        ("application/json", [b'{"model":"the', b'irs"}'], 0),
        ("application/json", [b"{", b'"model":"theirs"}'], 0),
    ],
    ids=["whole", "by line", "cut line", "JSON", "cut JSON", "late JSON"],
)
def test_where_nothing_may_be_held_back_what_comes_whole_is_renamed(media, pieces, renamed):
    head_ = ResponseHead(200, {"content-type": media}, may_hold=False)
    through = response_body_for(RENAMED, head_, True)

    assert b"".join(through.feed(piece, False) for piece in pieces).count(b'"mine"') == renamed


def test_usage_is_read_across_pieces_where_nothing_may_be_held_back():
    head_ = ResponseHead(200, {"content-type": "text/event-stream"}, may_hold=False)
    through = response_body_for(RENAMED, head_, True)
    for at in range(0, len(CHAT_STREAM), 11):
        through.feed(CHAT_STREAM[at : at + 11], False)

    assert through.usage == Usage(7, 10)


def test_counts_nested_too_deep_say_nothing():
    deep = b'"usage":{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}}"

    assert flow(PLAIN, b'{"a":"' + b"x" * 400_000 + b'",' + deep, "application/json")[1] is None


class BrokenCount:
    """Usage that cannot be read."""

    usage = None

    def read(self, text):
        raise ZeroDivisionError


@pytest.mark.parametrize("name", [None, "mine"], ids=["read", "renamed"])
@pytest.mark.parametrize("may_hold", [True, False])
@pytest.mark.parametrize(
    ("made", "pieces"),
    [
        (lambda *a, **k: EventBody(*a, b'"usage"', **k), [b": hi\n\nda", b'ta: {"usage":1}\n: x']),
        (JsonBody, [b'{"a":1,', b'"usage":1}']),
    ],
    ids=["events", "JSON"],
)
def test_a_reader_that_fails_owes_what_it_has_not_passed_on(made, pieces, may_hold, name):
    body = made(name, BrokenCount(), may_hold=may_hold)
    passed = body.feed(pieces[0], False)

    with pytest.raises(ZeroDivisionError):
        body.feed(pieces[1], True)
    assert passed + body.owed() == b"".join(pieces)


def test_content_length_goes_when_the_name_changes():
    changed = response_body_for(RENAMED, response_head(), False)
    unchanged = response_body_for(PLAIN, response_head(), True)

    assert changed.changes.remove == ("content-length",)
    assert unchanged.changes == NO_CHANGES
