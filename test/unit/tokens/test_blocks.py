"""Block keys: what they tell apart and what they leave out."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.domain.request import Item, Prompt
from epp.tokens.blocks import block_keys, chain_seed, chained, folded, overlapping, pack


def ids(*tokens):
    return Prompt(token_ids=tokens)


def test_only_full_blocks_have_a_key():
    assert len(block_keys(ids(*range(39)), 16, seed=0)) == 2


def test_text_counts_four_bytes_to_a_token():
    assert len(block_keys(Prompt(text=b"x" * 191), 16, seed=0)) == 2


def test_an_empty_prompt_has_no_block():
    assert block_keys(Prompt(), 16, seed=0) == []


def test_keys_are_capped_by_tokens():
    assert len(block_keys(ids(*range(1000)), 16, seed=0, max_tokens=100)) == 6


def test_a_key_names_all_that_leads_up_to_it():
    same, other = list(range(64)), [7, *range(1, 64)]

    keys = block_keys(ids(*same), 16, seed=0)

    assert not set(keys) & set(block_keys(ids(*other), 16, seed=0))


def test_token_ids_and_their_packed_bytes_agree():
    tokens = list(range(100, 164))

    assert block_keys(ids(*tokens), 16, 1) == block_keys(
        Prompt(text=array("I", tokens).tobytes()), 16, 1
    )


@pytest.mark.parametrize(
    "container", [list, tuple, lambda t: array("I", t), lambda t: array("q", t)]
)
def test_the_container_of_token_ids_does_not_matter(container):
    tokens = range(64)

    assert block_keys(Prompt(token_ids=container(tokens)), 16, 1) == block_keys(ids(*tokens), 16, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("a", ""), ("b", ""), id="model"),
        pytest.param(("a", "salt"), ("a", ""), id="salt"),
        pytest.param(("ab", "c"), ("a", "bc"), id="borders"),
        pytest.param(("a", "", "lora"), ("a", "lora", ""), id="adapter-is-no-salt"),
    ],
)
def test_unlike_seeds_share_no_block(one, other):
    assert chain_seed(*one) != chain_seed(*other)


def test_a_token_id_out_of_range_is_an_overflow():
    with pytest.raises(OverflowError):
        block_keys(ids(*[2**40] * 16), 16, 0)


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(1, 8))
def test_prompts_share_as_many_keys_as_full_blocks(one, other, block_tokens):
    size = block_tokens * 4
    common = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    first, second = (block_keys(Prompt(text=t), block_tokens, 9) for t in (one, other))

    shared = sum(a == b for a, b in zip(first, second, strict=False))

    assert shared == common // size


ITEMS = st.lists(
    st.builds(Item, st.sampled_from(["a", "b"]), st.integers(0, 200), st.integers(0, 80)),
    min_size=1,
    max_size=4,
)


def slow_keys(tokens, block, seed, items):
    """Block by block: the tokens, then the hashes of what reaches into them."""
    keys, key = [], seed
    for start in range(0, len(tokens) - block + 1, block):
        (key,) = chained(pack(tokens[start : start + block]), block * 4, key)
        key = folded(key, overlapping(items, start, block))
        keys.append(key)
    return keys


@given(st.integers(0, 150), st.sampled_from([16, 32]), ITEMS)
def test_images_among_token_ids_are_part_of_the_blocks_they_reach_into(length, block, items):
    tokens = list(range(length))
    prompt = Prompt(token_ids=tokens, items=tuple(items))

    assert block_keys(prompt, block, 7) == slow_keys(tokens, block, 7, items)


def test_unlike_images_on_the_same_token_ids_share_only_what_stands_before_them():
    one, other = (Prompt(token_ids=[5] * 64, items=(Item(name, 20, 8),)) for name in "ab")
    shared = [a == b for a, b in zip(block_keys(one, 16, 0), block_keys(other, 16, 0), strict=True)]

    assert shared == [True, False, False, False]
