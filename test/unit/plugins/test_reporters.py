"""The reporter of token counts: what it makes of them, and which configurations it refuses."""

import pytest
from pydantic import ValidationError
from support.pools import decision, endpoint, request

from epp.domain.response import Usage
from epp.plugins.expression import EvaluationError
from epp.plugins.reporters.request_attribute import RequestAttributeReporter


def reporter(expression, condition="", **key):
    attribute = {"key": {"name": "cost", **key}, "expression": expression, "condition": condition}
    given = {"attributes": [attribute]}
    return RequestAttributeReporter(RequestAttributeReporter.Params.model_validate(given))


def reported(it, *counts):
    return it.report(request(), decision(endpoint(0)), Usage(*(counts or (32, 10, 16))))


@pytest.mark.parametrize(
    ("expression", "condition", "number"),
    [
        ("usage.prompt_tokens + usage.completion_tokens", "", 42.0),
        ("usage.total_tokens", "has(usage.prompt_tokens) && has(usage.completion_tokens)", 42.0),
        ("usage.completion_tokens\n", "has(usage.completion_tokens)", 10.0),
        ("(has(usage.x) ? usage.x : 0) + usage.prompt_tokens", "", 32.0),
        ("usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens", "", 16.0),
        ("usage.prompt_tokens - usage.prompt_token_details.cached_tokens", "", 16.0),
        ("usage.prompt_tokens / 5.0", "", 6.0),
        ("-1.9", "", -1.0),
        ("7", "usage.total_tokens >= 42", 7.0),
    ],
)
def test_a_number_is_made_of_token_counts(expression, condition, number):
    assert reported(reporter(expression, condition)) == {"envoy.lb": {"cost": number}}


@pytest.mark.parametrize(
    "condition", ["false", "has(usage.nothing)", "usage.total_tokens > 42", "usage.total_tokens"]
)
def test_nothing_is_said_unless_the_condition_is_true(condition):
    assert reported(reporter("usage.total_tokens", condition)) == {}


@pytest.mark.parametrize(
    ("key", "where"),
    [({}, "envoy.lb"), ({"namespace": ""}, "envoy.lb"), ({"namespace": "mine"}, "mine")],
)
def test_the_key_says_where_it_goes(key, where):
    assert list(reported(reporter("1", **key))) == [where]


def test_cached_tokens_are_there_where_the_engine_told_of_them():
    it = reporter("1", "has(usage.prompt_tokens_details)")

    assert reported(it, 32, 10, 0)
    assert not reported(it, 32, 10, None)


@pytest.mark.parametrize("expression", ["usage.nothing", "true", "'a'", "1.0 / 0.0", "null"])
def test_what_comes_to_no_number_is_a_fault_of_the_plugin(expression):
    with pytest.raises(EvaluationError):
        reported(reporter(expression))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"attributes": []}, "at least 1"),
        ({"attributes": [{"key": {"name": "a"}, "expression": "1"}] * 2}, "at most 1"),
        ({"attributes": [{"key": {"name": ""}, "expression": "1"}]}, "name"),
        ({"attributes": [{"key": {"name": "a"}, "expression": ""}]}, "expression"),
        ({"attributes": [{"key": {"name": "a"}, "expression": "usage."}]}, "column 7"),
        (
            {"attributes": [{"key": {"name": "a"}, "expression": "1", "condition": "f(1)"}]},
            r"the function f\(\) is not supported",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(given, named):
    with pytest.raises(ValidationError, match=named):
        RequestAttributeReporter.Params.model_validate(given)
