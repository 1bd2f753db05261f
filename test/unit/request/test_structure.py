"""Brackets outside strings, counted as a plain walk over the decoded value counts them."""

import json

from hypothesis import given
from hypothesis import strategies as st

from epp.request.structure import brackets, deeper_than, nesting

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


def test_brackets_in_strings_do_not_count():
    assert brackets(rb'{"a[": ["]\"}", "\\"], "b": {}}') == b"{[]{}}"


@given(st.lists(st.sampled_from(['"', "\\", "[", "x"]), max_size=60), st.integers(0, 2))
def test_runs_of_backslashes_end_a_string_or_not(content, limit):
    text = json.dumps({"a": ["".join(content)]}).encode()

    assert deeper_than(text, limit) is (limit < 2)
