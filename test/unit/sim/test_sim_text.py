"""Tokens, templates, answers and hashes: deterministic, and vLLM's own where it has vectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_sim import hashing
from vllm_sim.text import tokenizer
from vllm_sim.text.answers import AnswerSource
from vllm_sim.text.template import render_chat

NO_NUL = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(NO_NUL)
def test_text_survives_its_tokens(text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(NO_NUL, NO_NUL)
def test_texts_with_a_common_start_share_its_tokens(start, rest):
    whole = len(start.encode()) // tokenizer.BYTES_PER_TOKEN
    assert tokenizer.encode(start + rest)[:whole] == tokenizer.encode(start)[:whole]


def test_token_ids_are_the_same_everywhere():
    assert tokenizer.encode("hello wo") == [0x68656C6C, 0x6F20776F]


def test_a_turn_keeps_the_tokens_of_the_turns_before():
    first = [{"role": "user", "content": "one, two"}]
    later = [*first, {"role": "assistant", "content": "three"}]
    before = tokenizer.encode(render_chat(first))
    after = tokenizer.encode(render_chat(later, generation_prompt=False))
    assert after[: len(before)] == before


PICTURES = {
    "chat": lambda data: {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{data}"},
    },
    "responses": lambda data: {
        "type": "input_image",
        "image_url": f"data:image/png;base64,{data}",
    },
    "anthropic": lambda data: {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": data},
    },
    "in a tool's result": lambda data: {
        "type": "tool_result",
        "content": [{"type": "image", "source": {"type": "base64", "data": data}}],
    },
}


def shown(*parts):
    return tokenizer.encode(render_chat([{"role": "user", "content": list(parts)}]))


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_so_many_tokens_however_large_its_data(picture):
    small, large = (shown(picture(data)) for data in ("AAAA", "A" * 1_000_000))

    assert len(small) == len(large) < 350
    assert small != large
    assert large == shown(picture("A" * 1_000_000))


def test_sound_and_video_are_so_many_tokens_too():
    nothing = len(shown())
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 9999, "format": "wav"}}
    video = {"type": "video_url", "video_url": {"url": "https://x/y.mp4"}}

    assert [len(shown(part)) - nothing for part in (sound, video)] == [128 + 4, 2048 + 4]


def test_answers_follow_seed_and_prompt():
    def say(seed, prompt):
        return AnswerSource(seed).words(prompt, limit=50, room=99, ignore_eos=True).tokens

    assert say(1, [1, 2, 3]) == say(1, [1, 2, 3])
    assert say(1, [1, 2, 3]) != say(2, [1, 2, 3])
    assert say(1, [1, 2, 3]) != say(1, [1, 2, 4])


@given(
    limit=st.none() | st.integers(1, 300),
    room=st.integers(1, 300),
    law=st.sampled_from(["buckets", "exact", "normal", "lognormal"]),
    seed=st.integers(0, 5),
)
def test_answers_keep_to_their_room(limit, room, law, seed):
    answer = AnswerSource(seed, law).words([7], limit=limit, room=room)
    most = min(room, limit or room)
    assert 1 <= len(answer.tokens) <= most
    assert (answer.finish_reason == "length") == (len(answer.tokens) == most)


VECTORS = [
    (
        "0",
        "4e1195df020de59e0d65a33a4279f1183e7ae4e5d980e309f8b55adff2e61c3e",
        [
            "202da172482d928bbc42ab25b0151e2b895f13f41002e27b2ceabcfae6d332ea",
            "4a0a393805c6d2f0ed831000d41bb65980336c4c04895d5e26470bbec927f5bf",
        ],
        [3236607068019569386, 2758186210834249151],
    ),
    (
        "vllm-none-hash",
        "9bd96a485ad84efdafb72ee48a1d7a69bcead0f8f0433173941b276b9581eef0",
        [
            "cd7c51bc5a8fc8643f383a2b9e01522fba7473c669e9270c7b0bf7bf7fd01682",
            "2533ea50426b36e9e4d68296cac6bce8cf602e46957d0fe40b368b33d87bf3bf",
        ],
        [8866452693264111234, 807986237951177663],
    ),
]


@pytest.mark.parametrize(("seed", "none", "full", "low"), VECTORS, ids=["0", "vllm-none-hash"])
def test_block_hashes_are_vllms(seed, none, full, low):
    parent = hashing.none_hash(seed)
    keys = hashing.block_keys(list(range(1, 33)), 16, parent=parent)
    assert parent.hex() == none
    assert [f"{key:064x}" for key in keys] == full
    assert [key & hashing.LOW_64 for key in keys] == low


@pytest.mark.parametrize(
    ("salt", "digest"),
    [
        (("tenant-a",), "49b760d6d243926bf3dfb4d180a3a3d4b6014d7f50eeaab097c026e53c21ba63"),
        (
            (("cache_salt", "tenant-a"),),
            "c71ed03162c142001441c39eb65b64194bc942ce09164e592f18a74403ce4052",
        ),
    ],
    ids=["untagged", "tagged"],
)
def test_a_salt_enters_the_first_block_as_vllm_does_it(salt, digest):
    parent = hashing.none_hash("0")
    keys = hashing.block_keys(list(range(1, 17)), 16, parent=parent, salt=salt)
    assert f"{keys[0]:064x}" == digest


@given(st.lists(st.integers(0, 2**32 - 1), max_size=40), st.integers(1, 9))
def test_both_ways_to_encode_a_block_agree(tokens, size):
    count = len(tokens) // size
    each = [b"".join(map(hashing.cbor, tokens[at * size : (at + 1) * size])) for at in range(count)]
    assert hashing._encoded_blocks(tokens, size, count) == each


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (None, "f6"),
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (1000, "1903e8"),
        (1000000, "1a000f4240"),
        (2**64 - 1, "1bffffffffffffffff"),
        (-1, "20"),
        (b"\x01\x02", "420102"),
        ("IETF", "6449455446"),
        ([1, [2, 3]], "8201820203"),
    ],
    ids=str,
)
def test_cbor_is_that_of_the_standard(value, form):
    assert hashing.cbor(value).hex() == form
