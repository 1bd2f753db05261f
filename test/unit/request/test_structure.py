"""Brackets outside strings, counted as a plain walk over the decoded value counts them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.request.structure import MOST_BRACKETS, brackets, deeper_than, nesting

values = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\a\nü', max_size=8),
    lambda each: (
        st.lists(each, max_size=4)
        | st.dictionaries(st.text(alphabet='[]{}"\\ab', max_size=4), each, max_size=4)
    ),
    max_leaves=30,
)


def depth(value) -> int:
    match value:
        case dict():
            return 1 + max(map(depth, value.values()), default=0)
        case list():
            return 1 + max(map(depth, value), default=0)
        case _:
            return 0


@given(values, st.integers(0, 6), st.booleans())
def test_depth_is_that_of_the_value(value, limit, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).encode()

    assert deeper_than(text, limit) is (depth(value) > limit)


@given(values)
def test_a_whole_text_leaves_nothing_open(value):
    assert nesting(json.dumps(value).encode()) == 0


@pytest.mark.parametrize("count", [MOST_BRACKETS // 2 - 1, MOST_BRACKETS // 2])
def test_more_brackets_than_anybody_needs_count_as_too_deep(count):
    text = b"[" + b"[]," * count + b"1]"

    assert deeper_than(text, 64) is (2 * count + 2 > MOST_BRACKETS)


@pytest.mark.parametrize("over", [False, True], ids=["at the limit", "over it"])
@pytest.mark.parametrize(
    "filler",
    ['x"[', "\\" * 3 + "{", "\\" * 40 + '"', "[" * 9, "\\"],
    ids=["quotes", "backslashes", "long runs", "brackets", "one run"],
)
def test_depth_is_told_across_the_chunks_of_a_long_text(filler, over):
    long = (filler * 700_000)[:700_000]
    value = [[[[long], {"a": long}, "x" * 200_001, [long[1:]]]]]

    assert deeper_than(json.dumps(value).encode(), depth(value) - over) is over


def test_brackets_in_strings_do_not_count():
    assert brackets(rb'{"a[": ["]\"}", "\\"], "b": {}}') == b"{[]{}}"


@given(st.lists(st.sampled_from(['"', "\\", "[", "x"]), max_size=60), st.integers(0, 2))
def test_runs_of_backslashes_end_a_string_or_not(content, limit):
    text = json.dumps({"a": ["".join(content)]}).encode()

    assert deeper_than(text, limit) is (limit < 2)
