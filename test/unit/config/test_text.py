import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.config.text import MAX_BYTES, read
from epp.errors import ConfigError


def problem(text) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, "f.yaml")
    (only,) = caught.value.problems
    return only


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("[", "f.yaml:2: is not YAML", id="broken"),
        pytest.param("a: 1\nb:\n  c: 1\n  c: 2", "f.yaml:4: b: the key 'c' stands", id="twice"),
        pytest.param("a: &x [*x]", "alias *x is not defined", id="endless"),
        pytest.param("a: !!python/object:os.system x", "tags are not read", id="tag"),
        pytest.param("a: &x {b: 1}\nc:\n  <<: *x", "f.yaml:3: c: merge keys", id="merge"),
        pytest.param("a: 1\n---\nb: 2", "f.yaml:2: holds a second document", id="two"),
        pytest.param("[" * 100_000, "nested deeper", id="brackets"),
        pytest.param("- " * 100_000, "nested deeper", id="dashes"),
        pytest.param("? {a: b}\n: c", "a key must be text", id="key"),
        pytest.param("a: \x00", "is not YAML", id="nul"),
        pytest.param(b"a: \xff", "is not UTF-8", id="latin"),
        pytest.param("#" * (MAX_BYTES + 1), "is larger than", id="large"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(text, said):
    assert said in problem(text)


def test_aliases_expand_but_not_without_end():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]

    assert "expands to more than" in problem("\n".join(lines))


def test_aliases_may_not_stack_up_deeper_than_what_is_written():
    text = "a0: &a0 [[[[[[[[[[x]]]]]]]]]]\n"
    text += "\n".join(f"a{i}: &a{i} [[[[[[[[[[*a{i - 1}]]]]]]]]]]" for i in range(1, 9))

    assert "nested deeper" in problem(text)


def test_an_alias_is_its_anchor_again():
    assert read("a: &x {b: [1]}\nc: *x", "f").value == {"a": {"b": [1]}, "c": {"b": [1]}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: on", "on"),
        ("a: 2024-01-01", "2024-01-01"),
        ("a: 1:30", "1:30"),
        ("a: '5'", "5"),
        ("a: !!str 5", "5"),
        ("a: 0.5", 0.5),
        ("a: -3", -3),
        ("a: true", True),
        ("a: 4Gi", "4Gi"),
    ],
)
def test_plain_words_are_what_json_has(text, value):
    assert read(text, "f").value == {"a": value}


def test_null_counts_as_not_written():
    assert read("a:\nb: ~\nc: null\nd: [null]", "f").value == {"d": [None]}


def test_json_with_tabs_is_read():
    assert read('{\n\t"a": [1,\t"x\\ty"]\n}', "f").value == {"a": [1, "x\ty"]}


def test_each_path_knows_its_line():
    place = read("a:\n- b: 1\n- b:\n    c: 2\n", "f").place

    assert place.says(("a", 1, "b", "c"), "x") == "f:4: a[1].b.c: x"


def reads_as_no_number(text):
    """YAML 1.1 writes `0E0` without quotes, for it is no number there; in JSON it is one."""
    try:
        return not isinstance(json.loads(text), float)
    except ValueError:
        return True


TEXTS = st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc"))).filter(reads_as_no_number)
JSON = st.recursive(
    st.integers() | TEXTS | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
@settings(max_examples=100)
def test_whatever_json_says_is_read_as_json_reads_it(value):
    text = json.dumps(value, ensure_ascii=False)

    assert read(text, "f").value == json.loads(text)


@given(JSON)
@settings(max_examples=100)
def test_whatever_yaml_writes_is_read_back(value):
    assert read(yaml.safe_dump(value, allow_unicode=True), "f").value == value
