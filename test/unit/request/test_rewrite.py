"""A model's name is replaced at the top of a body and nothing else changes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.errors import TooLarge
from epp.request.rewrite import MOST_MODELS, rename_model, rewrite_model

NEW = 'new/"m"'
NEW_JSON = json.dumps(NEW).encode()

names = st.sampled_from(["model", "Model", "models", "x", 'a"model', "message", "response", "\\"])
values = st.recursive(
    st.none() | st.integers() | st.text(alphabet='":model{}[]\\, ü', max_size=9),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(names, each, max_size=3),
    max_leaves=12,
)
bodies = st.dictionaries(names, values, max_size=4)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a","n":123456789012345678901}', b'{"model":%s,"n":123456789012345678901}'),
        (b'{ "z":1.10 , "model" :\t"a" }', b'{ "z":1.10 , "model" :\t%s }'),
        (b'{"model":null}', b'{"model":%s}'),
        (b'{"model":"a","model":"b\\"c"}', b'{"model":%s,"model":%s}'),
        (b'{"\\u006dod\\u0065l":"a"}', b'{"\\u006dod\\u0065l":%s}'),
        (b'{"tools":[{"model":"t"}],"model":"a"}', b'{"tools":[{"model":"t"}],"model":%s}'),
        (b'{"p":"\\"model\\":\\"x\\"","model":"a"}', b'{"p":"\\"model\\":\\"x\\"","model":%s}'),
        (b'{"\\"model":1,"model":"a"}', b'{"\\"model":1,"model":%s}'),
        (b'{"p":"model","model":"a"}', b'{"p":"model","model":%s}'),
        (b'{"p":1}', b'{"model": %s, "p":1}'),
        (b" { }", b' {"model": %s }'),
        (b'{"a":{"model":"t"}}', b'{"model": %s, "a":{"model":"t"}}'),
    ],
)
def test_every_other_byte_stays(body, expected):
    assert rewrite_model(body, NEW) == expected.replace(b"%s", NEW_JSON)


@given(bodies, st.text(max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_a_rewritten_body_differs_in_its_model_only(body, model, ascii_only, indent):
    body["model"] = model
    text = json.dumps(body, ensure_ascii=ascii_only, indent=indent).encode()

    rewritten = rewrite_model(text, NEW)

    assert json.loads(rewritten) == {**body, "model": NEW}
    assert len(rewritten) - len(text) == len(NEW_JSON) - len(
        json.dumps(model, ensure_ascii=ascii_only).encode()
    )


@given(bodies.filter(lambda body: "model" not in body))
def test_a_body_without_a_model_gets_one(body):
    rewritten = json.loads(rewrite_model(json.dumps(body).encode(), NEW))

    assert rewritten == {**body, "model": NEW}
    assert next(iter(rewritten)) == "model"


@given(bodies)
def test_a_response_is_renamed_at_the_top_and_in_its_wrapper(body):
    expected = dict(body)
    for name in ("response", "message"):
        inner = expected.get(name)
        if isinstance(inner, dict) and replaceable(inner):
            expected[name] = {**inner, "model": NEW}
    if replaceable(expected):
        expected["model"] = NEW

    assert json.loads(rename_model(json.dumps(body).encode(), NEW)) == expected


def replaceable(value) -> bool:
    return "model" in value and isinstance(value["model"], (str, type(None)))


def test_a_response_without_a_model_comes_back_itself():
    text = b'{"error":{"message":"The model `x` does not exist."}}'

    assert rename_model(text, NEW) is text


def with_models(count: int) -> bytes:
    return b'{"model":"a","x":[' + b'{"model":"b"},' * (count - 1) + b"1]}"


def test_many_nested_models_cost_linear_time():
    assert rewrite_model(with_models(MOST_MODELS), "c").count(b'"c"') == 1


def test_more_models_than_anybody_needs_are_too_large():
    with pytest.raises(TooLarge, match="keys named model"):
        rewrite_model(with_models(MOST_MODELS + 1), "c")
