"""The tokens somebody told become the token count, and matches are read in the same unit."""

from array import array

import pytest
from support.pools import decision, pool, request, tools

from epp.plugins.columns import uncached_tokens
from epp.plugins.producers.approx_prefix import ApproxPrefixCacheProducer
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
