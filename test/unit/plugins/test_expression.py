"""Expressions: what they come to, what is refused and where, and that nothing runs away."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.plugins.expression import EvaluationError, ExpressionError, compiled
from epp.plugins.expression.words import MOST_CHARACTERS

USAGE = {
    "prompt_tokens": 32.0,
    "completion_tokens": 10.0,
    "total_tokens": 42.0,
    "prompt_tokens_details": {"cached_tokens": 16.0},
}


def worth(text, usage=None):
    return compiled(text, ("usage",))({"usage": USAGE if usage is None else usage})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("usage.prompt_tokens + usage.completion_tokens", 42.0),
        ("usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens", 16.0),
        ("usage.prompt_tokens * 2", 64.0),
        ("usage.prompt_tokens / 5.0", 6.4),
        ("usage['prompt_tokens']", 32.0),
        ("(has(usage.nothing) ? usage.nothing : 0) + 1", 1),
        ("has(usage.completion_tokens) && usage.completion_tokens > 5", True),
        ("'prompt_tokens' in usage", True),
        ('"nothing" in usage', False),
        ("size(usage)", 4),
        ("size('caf\\n')", 4),
        ("int(usage.prompt_tokens / 5.0)", 6),
        ("int(-1.9)", -1),
        ("double(3) / 2", 1.5),
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("1.0 / 0.0", math.inf),
        ("-1.0 / 0", -math.inf),
        ("1 + 2 * 3 - 4", 3),
        ("(1 + 2) * 3", 9),
        ("10 - 3 - 2", 5),
        ("--3", 3),
        ("!!true", True),
        ("0x1f", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1 == 1.0", True),
        ("1 == '1'", False),
        ("true == 1", False),
        ("null == null", True),
        ("'a' < 'b'", True),
        ("false < true", True),
        ("1 < 2 == true", True),
        ("1 < 2 ? 3 : 4 < 5 ? 6 : 7", 3),
        ("false ? 1 : true ? 2 : 3", 2),
        ("true || usage.nothing > 1", True),
        ("usage.nothing > 1 || true", True),
        ("usage.nothing > 1 && false", False),
        ("1 // a comment\n + 1", 2),
    ],
)
def test_it_comes_to(text, value):
    found = worth(text)

    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("usage.nothing", "no such field: nothing"),
        ("usage.nothing || false", "no such field"),
        ("usage.prompt_tokens.more", "fields are of maps, not of double"),
        ("has(usage.nothing.more)", "no such field: nothing"),
        ("usage[1]", "named by a string, not int"),
        ("1 + 'a'", "'\\+' takes numbers, not int and string"),
        ("true + 1", "takes numbers, not bool and int"),
        ("usage.prompt_tokens % 2", "write int"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("9223372036854775807 + 1", "64 bits"),
        ("int(1e30)", "64 bits"),
        ("int(1.0 / 0.0)", "int\\(\\) cannot convert double"),
        ("int(true)", "cannot convert bool"),
        ("double('1')", "cannot convert string"),
        ("size(1)", "not of int"),
        ("1 < 'a'", "cannot compare int and string"),
        ("usage < usage", "cannot compare map and map"),
        ("1 && true", "'&&' takes a bool, not int"),
        ("!1", "'!' takes a bool"),
        ("-true", "takes a number, not bool"),
        ("1 ? 2 : 3", "takes a bool"),
    ],
)
def test_it_comes_to_nothing(text, named):
    with pytest.raises(EvaluationError, match=named):
        worth(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "column 1: unexpected its end"),
        ("1 +", "column 4: unexpected its end"),
        ("1 2", "column 3: unexpected 2"),
        ("(1", "column 3: unexpected its end, where '\\)'"),
        ("true ? 1", "where ':' should be"),
        ("request.headers", "column 1: unknown name 'request'; use usage"),
        ("1 + § 2", "column 5: unexpected '§'"),
        ("'open", "column 1: unexpected"),
        ("usage.prompt_tokens.exists(x, true)", "column 21: the method exists\\(\\)"),
        ("matches('a', 'b')", "column 1: the function matches\\(\\) is not supported"),
        ("[1, 2]", "a list is not supported"),
        ("{'a': 1}", "a map is not supported"),
        ("1u", "an unsigned number is not supported"),
        ("b'x'", "bytes, raw"),
        ("'''x'''", "multi-line"),
        ("'\\x41'", "the escape \\\\x is not supported"),
        ("for", "column 1: 'for' is a reserved word"),
        ("has(usage)", "has\\(\\) takes a field"),
        ("has(usage['a'])", "has\\(\\) takes a field"),
        ("has(1 + 2)", "has\\(\\) takes a field"),
        ("9223372036854775808", "does not fit into 64 bits"),
        ("usage.1", "column 6: unexpected"),
        ("(" * 33 + "1" + ")" * 33, "nested more than 32"),
        ("1+" * 300 + "1", "601 words; at most 400"),
        (" " * (MOST_CHARACTERS + 1), "4097 characters; at most 4096"),
    ],
)
def test_it_is_refused_with_the_place(text, named):
    with pytest.raises(ExpressionError, match=named):
        worth(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("+".join(["1"] * 200), id="sum"),
        pytest.param("-" * 399 + "1", id="signs"),
        pytest.param("usage" + ".a" * 199, id="fields"),
        pytest.param("||".join(["false"] * 200), id="conditions"),
        pytest.param("true ? 1 : " * 31 + "1", id="choices"),
        pytest.param("(" * 31 + "1" + ")" * 31, id="brackets"),
        pytest.param("1||1&&1<1+1*(" * 30 + "1" + ")" * 30, id="all-precedences"),
    ],
)
def test_the_longest_there_may_be_runs(text):
    deep = {}
    deep["a"] = deep

    try:
        worth(text, deep)
    except EvaluationError:
        return


NUMBERS = st.one_of(
    st.integers(0, 99),
    st.sampled_from([0.5, 1.5, 2.25]),
)


def terms():
    """Expressions as Python writes them too, with what they come to there."""
    return st.recursive(
        NUMBERS.map(str),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*"), inner).map(" ".join),
            inner.map("({})".format),
            inner.map("-({})".format),
        ),
        max_leaves=12,
    )


@given(terms())
@settings(max_examples=150)
def test_sums_and_products_come_to_what_python_says(text):
    assert worth(text) == eval(text)


@given(terms(), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), terms())
@settings(max_examples=100)
def test_comparisons_bind_less_than_sums(left, sign, right):
    text = f"{left} {sign} {right}"

    assert worth(text) is eval(text)


@given(st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40).filter(bool))
@settings(max_examples=100)
def test_quotient_and_remainder_are_those_of_c(left, right):
    names = {"usage": {"a": left, "b": right}}
    quotient = compiled("usage.a / usage.b", ("usage",))(names)
    remainder = compiled("usage.a % usage.b", ("usage",))(names)

    assert quotient * right + remainder == left
    assert abs(remainder) < abs(right)
    assert quotient == math.trunc(quotient)
    assert remainder == 0 or (remainder < 0) == (left < 0)


SIGNS = "usage . prompt_tokens 1 2.5 'a' + - * / % < == && || ! ? : ( ) [ ] in has size int null"
PIECES = st.sampled_from([*SIGNS.split(), " "])


@given(st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=25).map("".join)))
@settings(max_examples=400)
def test_any_text_ends_in_a_value_or_in_an_error_of_ours(text):
    try:
        worth(text)
    except (ExpressionError, EvaluationError):
        return
