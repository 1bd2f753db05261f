"""Images and such in messages are no text: they have stand-ins as long as what they count."""

import base64
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.requests import intake
from xxhash import xxh3_64_intdigest

from epp.plugins.parsers.anthropic import AnthropicParser
from epp.plugins.parsers.openai import OpenAIParser
from epp.request.media import MOST_STOOD_FOR, prompt_of
from epp.request.pictures import picture_size, wave_seconds
from epp.request.reader import RequestReader
from epp.tokens.blocks import block_keys
from epp.tokens.counting import counted

READER = RequestReader((OpenAIParser(), AnthropicParser()))
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
WORDS = {"type": "text", "text": "hello " * 100}
MEGABYTE = "A" * 1_000_000


def read(path, *parts, **headers):
    """A request whose only message has these parts, counted."""
    field = "input" if path == RESPONSES else "messages"
    body = {"model": "m", "max_tokens": 5, field: [{"role": "user", "content": list(parts)}]}
    return counted(READER.read(intake(body, path, **headers), "r1", 0.0))


def data_url(data, kind="image/png"):
    return f"data:{kind};base64,{data}"


def image(url):
    return {"type": "image_url", "image_url": {"url": url}}


def source(**fields):
    return {"type": "image", "source": fields}


def png(width, height):
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return base64.b64encode(head + bytes(200)).decode()


def wav(seconds, rate=32_000):
    size = int(seconds * rate)
    head = struct.pack("<4sI8sI", b"RIFF", 36 + size, b"WAVEfmt ", 16)
    head += struct.pack("<HHIIHH4sI", 1, 1, 16_000, rate, 2, 16, b"data", size)
    return base64.b64encode(head + bytes(size)).decode()


PARTS = {
    "chat": (CHAT, image(data_url(MEGABYTE)), 225),
    "chat, a URL": (CHAT, image("https://x/y.png"), 225),
    "chat, 1280 x 720": (CHAT, image(data_url(png(1280, 720))), 900),
    "responses": (RESPONSES, {"type": "input_image", "image_url": data_url(MEGABYTE)}, 225),
    "anthropic": (
        MESSAGES,
        source(type="base64", media_type="image/png", data=MEGABYTE),
        225,
    ),
    "anthropic, a URL": (MESSAGES, source(type="url", url="https://x/y.png"), 225),
    "anthropic, 1024 x 1024": (
        MESSAGES,
        source(type="base64", media_type="image/png", data=png(1024, 1024)),
        1024,
    ),
    "audio of 2 s": (
        CHAT,
        {"type": "input_audio", "input_audio": {"data": wav(2), "format": "wav"}},
        14 + 25,
    ),
    "audio that does not say": (
        CHAT,
        {"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "mp3"}},
        14 + 37,
    ),
    "audio by URL": (CHAT, {"type": "audio_url", "audio_url": {"url": "https://x/y"}}, 14 + 125),
    "video": (CHAT, {"type": "video_url", "video_url": {"url": data_url(MEGABYTE)}}, 2250),
    "file": (CHAT, {"type": "file", "file": {"file_data": data_url(MEGABYTE)}}, 225),
}


@pytest.mark.parametrize(("path", "part", "tokens"), PARTS.values(), ids=PARTS)
def test_a_medium_counts_what_it_is_taken_for(path, part, tokens):
    beside = read(path, WORDS).prompt_tokens

    assert read(path, WORDS, part).prompt_tokens - beside == pytest.approx(tokens, abs=40)


def test_headers_say_what_nobody_can_see_of_a_video():
    part = PARTS["video"][1]
    headers = {
        "x-llm-d-video-duration-seconds": "4",
        "x-llm-d-video-resolution": "1280x720",
        "x-llm-d-video-fps": "nonsense",
    }
    plain, told = (read(CHAT, part, **given).prompt_tokens for given in ({}, headers))

    assert told - plain == 4 * 900 - 2250


def test_the_digest_is_that_of_what_the_message_says():
    url = data_url(MEGABYTE)

    assert [m.digest for m in read(CHAT, image(url)).prompts[0].media] == [
        xxh3_64_intdigest(url.encode())
    ]


def test_two_images_share_no_block():
    keys = [
        block_keys(read(CHAT, image(data_url(MEGABYTE + end))).prompts[0], 16, 0)
        for end in ("AAAA", "BBBB")
    ]

    assert set(keys[0][5:]).isdisjoint(keys[1][5:])


def test_a_turn_is_the_beginning_of_the_next():
    first = json.dumps([{"role": "user", "content": [WORDS, image(data_url(MEGABYTE))]}])[:-1]
    text = [prompt_of(turn.encode()).text for turn in (first, first + ', {"role": "assistant"}')]

    assert text[1].startswith(text[0])


TEXTS = {
    "prose": [{"role": "user", "content": "an image [of a cat]"}],
    "a list of text": [{"role": "user", "content": [WORDS]}],
    "an escaped key": [{"role": "user", "content": [{"text": '"image_url": "https://x"'}]}],
    "a text document": [
        {"content": [{"source": {"type": "text", "data": "so it goes"}, "type": "document"}]}
    ],
    "a search result": [{"content": [{"type": "search_result", "source": "https://x/y"}]}],
    "a schema": [{"properties": {"image_url": {"type": "string", "enum": ["a"]}}}],
    "long, with underscores": [{"content": [{"text": "_url _audio _data" * 999}]}],
}


@pytest.mark.parametrize("messages", TEXTS.values(), ids=TEXTS)
def test_text_stays_as_it_came(messages):
    text = json.dumps(messages).encode()

    assert (prompt_of(text).text, prompt_of(text).media) == (text, ())


def test_media_are_found_in_long_texts_too():
    long = {"type": "text", "text": "snake_case " * 2000}
    asked = read(CHAT, long, PARTS["chat"][1], PARTS["audio of 2 s"][1])

    assert [medium.kind for medium in asked.prompts[0].media] == ["image", "audio"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 70_000), st.sampled_from(["chat", "anthropic", "audio of 2 s", "file"]))
def test_media_are_found_wherever_they_stand(before, name):
    text = json.dumps([{"content": ["[" + "_" * before, PARTS[name][1]]}]).encode()

    assert len(prompt_of(text).media) == 1


def test_many_images_make_no_long_text():
    parts = [image(data_url(png(30_000, 30_000))) for _ in range(50)]
    asked = read(CHAT, *parts)

    assert asked.prompt_tokens > 50 * 100_000
    assert asked.prompts[0].tokens < MOST_STOOD_FOR + 10_000


JPEG = b"\xff\xd8\xff\xe1" + struct.pack(">H", 5002) + bytes(5000)
SIZES = {
    "png": base64.b64decode(png(640, 480)),
    "gif": b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(30),
    "jpeg behind a long segment": JPEG + b"\xff\xc0" + struct.pack(">HBHH", 17, 8, 480, 640),
    "webp, lossy": b"RIFF0000WEBPVP8 " + bytes(10) + struct.pack("<HH", 640, 480),
    "webp, lossless": b"RIFF0000WEBPVP8L0000/" + struct.pack("<I", 479 << 14 | 639) + bytes(9),
    "webp, extended": b"RIFF0000WEBPVP8X" + bytes(8) + b"\x7f\x02\0\xdf\x01\0",
}


@pytest.mark.parametrize("data", SIZES.values(), ids=SIZES)
def test_a_picture_says_its_size(data):
    assert picture_size(memoryview(base64.b64encode(data))) == (640, 480)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=64), st.sampled_from([b"", b"RIFF", b"\xff\xd8\xff", b"GIF8"]))
def test_what_is_no_picture_says_nothing_and_breaks_nothing(data, start):
    for text in (data, base64.b64encode(start + data)):
        width, height = picture_size(memoryview(text))
        assert min(width, height, wave_seconds(memoryview(text))) >= 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_a_payload_ends_where_its_string_does(texts):
    parts = [image("data:" + text) for text in texts]
    prompt = prompt_of(json.dumps([{"content": parts}]).encode())
    found = json.loads(prompt.text)[0]["content"]

    assert len(prompt.media) == len(texts)
    assert [part["image_url"]["url"][:16] for part in found] == [
        f"{medium.digest:016x}" for medium in prompt.media
    ]
