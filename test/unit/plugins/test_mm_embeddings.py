"""Images go where they were encoded before, whoever tells them apart."""

import json

import msgspec
import pytest
from support.pools import endpoint, pool, request, tools

from epp.domain.decision import Decision, ProfileResult
from epp.domain.request import Item, Prompt
from epp.plugins.media import media_of
from epp.plugins.producers.mm_embeddings import MmEmbeddingsCacheProducer
from epp.plugins.scorers.mm_embeddings import MmEmbeddingsCacheScorer
from epp.request.prompts import open_ended
from epp.tokens.tokenized import TOKENIZED, Tokenized


def said(*parts):
    """A request whose last message has these parts."""
    messages = msgspec.Raw(json.dumps([{"role": "user", "content": list(parts)}]).encode())
    return request(prompts=(open_ended(messages),))


def picture(url):
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def producer(megabytes=4096):
    params = MmEmbeddingsCacheProducer.Params.model_validate({"cacheSizeInMBPerServer": megabytes})
    return MmEmbeddingsCacheProducer(params, tools())


def send(of, asked, view, row):
    result = ProfileResult("default", (view.endpoints[row],))
    of.picked(asked, view, Decision(request_id="r1", primary=result))


def scores(of, asked, view):
    found = MmEmbeddingsCacheScorer().score(asked, view.having(of.columns(asked, view)))
    return None if found is None else found.tolist()


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (picture("https://x/a.png"), 225),
        (picture("data:image/png;base64,AAAA"), 225),
        ({"type": "input_image", "image_url": "https://x/a.png"}, 225),
        ({"type": "input_audio", "input_audio": {"data": "UklGR", "format": "wav"}}, 14),
        ({"type": "video_url", "video_url": {"url": "https://x/a.mp4"}}, 2250),
        (
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "iVBOR"},
            },
            225,
        ),
    ],
    ids=["url", "data", "responses", "audio", "video", "anthropic"],
)
def test_media_are_found_in_messages(part, tokens):
    assert list(media_of(said(part)).values()) == [tokens]


def test_text_that_speaks_of_images_has_none():
    text = {"type": "text", "text": 'say "image_url": "https://x"'}

    assert media_of(said(text)) == {}


def test_the_engines_own_hashes_come_first():
    asked = said(picture("https://x/a.png"))
    asked.facts.put(TOKENIZED, Tokenized(([1] * 9,), ((Item("h", 2, 7),),), by="render"))

    assert list(media_of(asked).values()) == [7]


def test_hashes_a_client_gives_beside_token_ids_count():
    prompt = Prompt(token_ids=[1] * 9, items=(Item("h", 2, 7),))

    assert list(media_of(request(prompts=(prompt,))).values()) == [7]


def test_a_picture_is_held_where_it_was_sent():
    of, view = producer(), pool(3)
    send(of, said(picture("a")), view, 1)

    assert scores(of, said(picture("a")), view) == [0, 1, 0]
    assert scores(of, said(picture("a"), picture("b")), view) == [0, 0.5, 0]


def test_text_alone_has_no_opinion():
    assert scores(producer(), said({"type": "text", "text": "hi"}), pool(2)) is None


def test_the_longest_unused_is_forgotten():
    of, view = producer(megabytes=4), pool(1)
    for name in ("a", "b", "a", "c"):
        send(of, said(picture(name)), view, 0)

    assert [scores(of, said(picture(name)), view) for name in "abc"] == [[1], [0], [1]]


def test_an_endpoint_that_has_gone_leaves_nothing_to_its_slot():
    of, view = producer(), pool(1)
    send(of, said(picture("a")), view, 0)
    of._sent.on_removed(0)

    assert scores(of, said(picture("a")), pool(endpoints=[endpoint(7)])) == [0]


def test_a_request_keeps_what_was_found_in_it():
    asked = said(picture("a"))
    first = media_of(asked)

    assert media_of(msgspec.structs.replace(asked, prompts=())) is first
