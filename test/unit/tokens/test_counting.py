"""The tokens somebody told become the token count, and matches are read in the same unit."""

from array import array

import pytest
from msgspec import Raw
from support.pools import decision, pool, request, tools

from epp.domain.media import Medium
from epp.plugins.columns import uncached_tokens
from epp.plugins.estimate import EstimateParams
from epp.plugins.producers.approx_prefix import ApproxPrefixCacheProducer
from epp.plugins.producers.tokens import TokenProducer
from epp.request.prompts import open_ended
from epp.tokens.counting import counted
from epp.tokens.tokenized import TOKENIZED, Tokenized

PROSE = b"The quick brown fox jumps over the lazy dog and runs away. " * 80


def told(text, tokens, **fields):
    """A request for `text`, which is so many tokens of the engine's."""
    asked = request(text, kind="chat")
    asked.facts.put(TOKENIZED, Tokenized((array("I", range(tokens)),), by="render", **fields))
    return counted(asked)


def test_where_nobody_told_anything_the_request_stays_the_very_same():
    asked = request(PROSE)

    assert counted(asked) is asked


def test_what_a_client_sent_in_tokens_is_counted_already():
    asked = request(range(100))
    asked.facts.put(TOKENIZED, Tokenized((range(100),), by="request"))

    assert counted(asked) is asked


def test_told_tokens_are_the_count_from_then_on():
    assert (request(PROSE).prompt_tokens, told(PROSE, 1040).prompt_tokens) == (1180, 1040)


def test_what_follows_a_known_beginning_counts_too():
    assert told(PROSE, 900, more=140).prompt_tokens == 1040


def test_counting_twice_changes_nothing():
    asked = told(PROSE, 1040)

    assert counted(asked) is asked


def test_an_exact_match_leaves_only_what_has_to_be_computed():
    view = pool(1, prefix_tokens=[1039], prefix_total=[1040])

    assert uncached_tokens(told(PROSE, 1040), view).tolist() == [1]


@pytest.mark.parametrize("tokens", [590, 1180, 2360], ids=["half", "as counted", "twice"])
def test_a_match_of_half_the_prompt_is_half_of_it_in_whatever_unit(tokens):
    view, it = pool(1), ApproxPrefixCacheProducer(ApproxPrefixCacheProducer.Params(), tools())
    it.picked(request(PROSE[: len(PROSE) // 2]), view, decision(view.endpoints[0]))
    asked = told(PROSE, tokens)
    seen = view.having(it.columns(asked, view))

    assert uncached_tokens(asked, seen)[0] / tokens == pytest.approx(0.5, abs=0.04)


def with_picture(**estimate):
    """A request for an image of unknown size, counted as token-producer is told to."""
    messages = b'[{"content":[{"image_url":{"url":"https://x/y.png"}}]'
    asked = request(prompts=(open_ended(Raw(messages)),), prompt_tokens=0)
    it = TokenProducer(TokenProducer.Params.model_validate({"estimate": estimate}), tools())
    it.gather(asked)
    return counted(asked)


VIDEO = {
    "as it is": ({}, 2250),
    "Qwen": (
        {
            "tokensPerFrame": {"mode": "dynamic", "dynamic": {"factor": 1024}},
            "frames": {
                "mode": "sampled",
                "minFrames": 4,
                "maxFrames": 768,
                "sampled": {"sampleFPS": 2, "temporalPatchSize": 2},
            },
            "maxVideoTokens": 12288,
        },
        10 * 2 // 2 * 225,
    ),
    "Gemma": (
        {
            "tokensPerFrame": {"mode": "static", "static": {"numTokensPerFrame": 296}},
            "frames": {
                "mode": "strided",
                "minFrames": 1,
                "maxFrames": 8,
                "strided": {"frameStride": 4},
            },
        },
        8 * 296,
    ),
    "capped": ({"defaultDuration": 3600, "maxVideoTokens": 9000}, 9000),
}


@pytest.mark.parametrize(("given", "tokens"), VIDEO.values(), ids=VIDEO)
def test_videos_are_counted_as_configured(given, tokens):
    estimate = EstimateParams.model_validate({"video": given}).estimate()

    assert estimate.tokens(Medium("video", 1, 4)) == tokens


@pytest.mark.parametrize(
    ("image", "tokens"),
    [
        ({}, 225),
        ({"mode": "static", "static": {"staticToken": 280}}, 280),
        ({"defaultResolution": {"width": 1024, "height": 1024}}, 1024),
        ({"dynamic": {"factor": 784}}, 293),
    ],
    ids=["as it is", "static", "resolution", "factor"],
)
def test_images_are_counted_as_configured(image, tokens):
    usual = with_picture().prompt_tokens

    assert with_picture(image=image).prompt_tokens - usual == tokens - 225


@pytest.mark.parametrize(
    ("audio", "tokens"),
    [
        ({}, 139),
        ({"mode": "static", "static": {"numTokens": 50}}, 50),
        ({"defaultDuration": 2, "dynamic": {"tokensPerSecond": 25, "overheadTokens": 0}}, 50),
        ({"maxAudioTokens": 100}, 100),
    ],
    ids=["as it is", "static", "dynamic", "capped"],
)
def test_audio_is_counted_as_configured(audio, tokens):
    estimate = EstimateParams.model_validate({"audio": audio}).estimate()

    assert estimate.tokens(Medium("audio", 1, 4)) == tokens


def test_a_match_counts_images_as_the_prompt_does():
    view, it = pool(1), ApproxPrefixCacheProducer(ApproxPrefixCacheProducer.Params(), tools())
    asked = with_picture(image={"mode": "static", "static": {"staticToken": 6000}})
    it.picked(asked, view, decision(view.endpoints[0]))
    seen = view.having(it.columns(asked, view))

    assert uncached_tokens(asked, seen)[0] < asked.prompt_tokens / 2
