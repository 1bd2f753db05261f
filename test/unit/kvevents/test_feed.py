"""Events become blocks under our own keys, the same that a request's prompt gets."""

from array import array

import msgspec
import numpy as np
import pytest

from epp.datastore.residency import Residency
from epp.domain.request import Prompt
from epp.kvevents.feed import Feed
from epp.kvevents.stats import Counts
from epp.tokens.blocks import block_keys, cache_seed, folded

TOKENS = list(range(1, 65))
"""Four blocks of 16."""


class Followed:
    """One endpoint's feed, its index and what they come to."""

    def __init__(self):
        self.counts = Counts()
        self.index = Residency()
        self.feed = Feed(self.index, 3, self.counts)

    def told(self, *events):
        self.feed.apply(msgspec.msgpack.encode([1.0, list(events), 0]))
        return self

    def blocks(self, tokens, *, block=16, salt="", adapter="", fast=False):
        """How many leading blocks of a prompt the endpoint holds."""
        prompt = Prompt(token_ids=array("I", tokens))
        keys = block_keys(prompt, block, cache_seed(salt, adapter))
        found = self.index.match(keys, block, np.array([3]), 0.0)
        return int(found.fast[0] if fast else found.any[0])


def stored(tokens, first=0, *, block=16, parent=None, name=100, **fields):
    """A run of blocks as a map; the engine calls them name + 0, name + 1, ..."""
    count = len(tokens) // block
    return {
        "type": "BlockStored",
        "block_hashes": [name + first + number for number in range(count)],
        "parent_block_hash": parent,
        "token_ids": tokens,
        "block_size": block,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        **fields,
    }


def removed(*names, **fields):
    return {"type": "BlockRemoved", "block_hashes": list(names), "medium": "GPU", **fields}


def test_a_run_is_held():
    assert Followed().told(stored(TOKENS)).blocks(TOKENS) == 4


def test_a_run_goes_on_from_its_parent():
    it = Followed().told(stored(TOKENS[:32]), stored(TOKENS[32:], 2, parent=101))

    assert it.blocks(TOKENS) == 4


@pytest.mark.parametrize(
    "form",
    [lambda h: h, lambda h: h - 2**64, lambda h: h.to_bytes(32, "big")],
    ids=["unsigned", "signed", "bytes"],
)
def test_a_parent_is_known_in_any_form_of_its_hash(form):
    high = 2**63 + 5
    first = stored(TOKENS[:16]) | {"block_hashes": [high]}
    then = stored(TOKENS[16:32], 1, parent=form(high))

    assert Followed().told(first, then).blocks(TOKENS) == 2


def test_a_run_whose_parent_is_unknown_says_nothing():
    it = Followed().told(stored(TOKENS[32:], 2, parent=999))

    assert it.blocks(TOKENS) == 0
    assert it.counts.orphans == 2


def test_what_is_removed_is_gone():
    it = Followed().told(stored(TOKENS), removed(102), removed(103))

    assert it.blocks(TOKENS) == 2
    assert (it.counts.stored, it.counts.removed) == (4, 2)


@pytest.mark.parametrize("clear", [["AllBlocksCleared"], {"type": "AllBlocksCleared"}])
def test_everything_cleared_is_gone(clear):
    it = Followed().told(stored(TOKENS), clear)

    assert it.blocks(TOKENS) == 0
    assert it.told(stored(TOKENS)).blocks(TOKENS) == 4


# -- what keeps prompts apart ----------------------------------------------------------------------


def test_an_adapter_has_its_own_blocks():
    it = Followed().told(stored(TOKENS, lora_name="sql"))

    assert it.blocks(TOKENS) == 0
    assert it.blocks(TOKENS, adapter="sql") == 4
    assert it.index.adapters == {"sql"}


@pytest.mark.parametrize(
    "entry", [["sql"], [["lora", "sql", "/path"]]], ids=["bare-name", "tagged"]
)
def test_an_adapter_among_the_extra_keys_breaks_no_match(entry):
    it = Followed().told(stored(TOKENS, lora_name="sql", extra_keys=[entry] * 4))

    assert it.blocks(TOKENS, adapter="sql") == 4


@pytest.mark.parametrize(
    "first", [["tenant"], [["cache_salt", "tenant"]]], ids=["bare-text", "tagged"]
)
def test_a_salt_has_its_own_blocks(first):
    it = Followed().told(stored(TOKENS, extra_keys=[first, None, None, None]))

    assert it.blocks(TOKENS) == 0
    assert it.blocks(TOKENS, salt="tenant") == 4


def test_a_salt_together_with_an_adapter():
    it = Followed().told(stored(TOKENS[:16], lora_name="sql", extra_keys=[["sql", "tenant"]]))

    assert it.blocks(TOKENS, salt="tenant", adapter="sql") == 1


@pytest.mark.parametrize(
    "item", [["picture", 3], ["mm", "picture", 3]], ids=["hash-and-offset", "tagged"]
)
def test_an_image_is_part_of_its_block(item):
    it = Followed().told(stored(TOKENS, extra_keys=[None, [item], None, None]))
    keys = block_keys(Prompt(token_ids=array("I", TOKENS[:32])), 16, cache_seed())
    keys[1] = folded(keys[1], ["picture"])
    found = it.index.match(keys, 16, np.array([3]), 0.0)

    assert it.blocks(TOKENS) == 1
    assert found.any[0] == 2


def test_embedded_prompts_match_no_text():
    it = Followed().told(stored(TOKENS, extra_keys=[["digest"], ["digest"], None, None]))

    assert it.blocks(TOKENS) == 0


@pytest.mark.parametrize("shape", [[["a", 0], ["b", 4]], [{"a": 1}, 2], [[], 1]], ids=repr)
def test_an_extra_key_of_a_shape_nobody_knows_costs_no_batch(shape):
    it = Followed().told(stored(TOKENS, extra_keys=[[shape], None, None, None]))

    assert it.index.held(3) == 4


# -- tiers -----------------------------------------------------------------------------------------


def test_blocks_move_to_slow_memory_without_their_tokens():
    copied = stored([], block_size=16, medium="CPU") | {"block_hashes": [100, 101]}
    it = Followed().told(stored(TOKENS), copied, removed(100), removed(101))

    assert it.blocks(TOKENS, fast=True) == 0
    assert it.blocks(TOKENS) == 4
    assert it.told(removed(101, medium="CPU")).blocks(TOKENS) == 1


@pytest.mark.parametrize(
    ("medium", "fast"), [(None, 4), ("", 4), ("GPU", 4), ("gpu", 4), ("CPU", 0), ("STORAGE", 0)]
)
def test_which_media_are_fast(medium, fast):
    assert Followed().told(stored(TOKENS, medium=medium)).blocks(TOKENS, fast=True) == fast


# -- hybrid models ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        ("full_attention", 4),
        ("mla_attention", 4),
        ("sink_full_attention", 4),
        (None, 4),
        ("sliding_window", 0),
        ("mamba", 0),
        ("chunked_local_attention", 0),
    ],
)
def test_only_groups_that_need_the_whole_prefix_count(kind, held):
    it = Followed().told(stored(TOKENS, group_idx=1, kv_cache_spec_kind=kind))

    assert it.blocks(TOKENS) == held


def test_removals_from_another_group_remove_nothing():
    it = Followed().told(
        stored(TOKENS, group_idx=0, kv_cache_spec_kind="full_attention"),
        stored(TOKENS, group_idx=1, kv_cache_spec_kind="sliding_window"),
        removed(100, group_idx=1),
    )

    assert it.blocks(TOKENS) == 4
    assert it.counts.other_groups == 2


# -- block sizes -----------------------------------------------------------------------------------


def test_large_blocks_are_kept_as_they_are():
    it = Followed().told(stored(TOKENS, block=32))

    assert it.index.block_tokens(3) == 32
    assert it.blocks(TOKENS, block=32) == 2


def test_pages_of_one_token_make_blocks_of_sixteen():
    pages = [
        stored([token], number, block=1, parent=99 + number if number else None)
        for number, token in enumerate(TOKENS[:40])
    ]
    it = Followed().told(*pages)

    assert it.index.block_tokens(3) == 16
    assert it.blocks(TOKENS) == 2
    assert it.told(removed(131)).blocks(TOKENS) == 1


def test_blocks_of_eight_make_blocks_of_sixteen_across_runs():
    it = Followed().told(stored(TOKENS[:24], block=8), stored(TOKENS[24:], 3, block=8, parent=102))

    assert it.blocks(TOKENS) == 4


def test_tokens_in_pairs_match_prompts_of_single_ones():
    pairs = [[token, token + 1] for token in TOKENS]

    assert Followed().told(stored(pairs)).blocks(TOKENS) == 4


def test_sglangs_salt_has_its_own_blocks():
    it = Followed().told(
        stored(TOKENS[:32], cache_salt="t"), stored(TOKENS[32:], 2, parent=101, cache_salt="t")
    )

    assert it.blocks(TOKENS) == 0
    assert it.blocks(TOKENS, salt="t") == 4


def test_a_last_page_that_is_not_full_takes_nothing_away():
    it = Followed().told(stored(TOKENS), stored(TOKENS[:7], block=7, parent=103, name=500))

    assert it.blocks(TOKENS) == 4
    assert it.index.block_tokens(3) == 16
    assert it.counts.resets == 0


def test_a_prompt_shorter_than_a_page_comes_first_and_says_nothing_of_the_size():
    it = Followed().told(stored(TOKENS[:7], block=7, name=500), stored(TOKENS))

    assert it.blocks(TOKENS) == 4


def test_another_block_size_starts_afresh():
    it = Followed().told(stored(TOKENS), stored(TOKENS[:32], block=32, name=500))

    assert it.blocks(TOKENS) == 0
    assert it.blocks(TOKENS, block=32) == 1


# -- what cannot be read ---------------------------------------------------------------------------


def test_an_unknown_event_costs_itself_alone():
    it = Followed().told(["Prefetched", 1], stored(TOKENS))

    assert it.blocks(TOKENS) == 4
    assert (it.counts.unread, it.counts.resets) == (1, 0)


@pytest.mark.parametrize(
    "broken",
    [
        stored(TOKENS, token_ids=TOKENS[:60]),
        stored(TOKENS, token_ids=[2**40] * 64),
        stored(TOKENS, token_ids=[-1] * 64),
        stored(TOKENS, block_size=0),
    ],
    ids=["too-few-tokens", "huge-token", "negative-token", "no-block-size"],
)
def test_a_run_that_makes_no_sense_is_left_out(broken):
    it = Followed().told(broken, stored(TOKENS[:16]))

    assert it.blocks(TOKENS) == 1
    assert it.counts.unread == 1


@pytest.mark.parametrize("payload", [b"\xc1", b"\x93\x01\x91\x91\xacBlockRemoved\x00"])
def test_what_may_have_removed_blocks_empties_the_endpoint(payload):
    it = Followed().told(stored(TOKENS))
    it.feed.apply(payload)

    assert it.blocks(TOKENS) == 0
    assert it.counts.resets == 1
