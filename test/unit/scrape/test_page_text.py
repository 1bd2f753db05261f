"""The reader of pages, held against the parser that everybody uses."""

import contextlib
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from epp.scrape.text import PageError, read

NAMES = ["vllm:num", "vllm:num_requests", "vllm:num_requests_waiting", "num", "x_total", "x"]


def values(page, name="up"):
    return [series.value for series in read(page, name.encode())]


def one(page, name="up"):
    [series] = read(page, name.encode())
    return dict(series.labels), series.value


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        pytest.param(b"up 1\n", ({}, 1), id="bare"),
        pytest.param(b"up 1", ({}, 1), id="no-last-newline"),
        pytest.param(b"up 1\r\nx 2\r\n", ({}, 1), id="crlf"),
        pytest.param(b"up\t1\n", ({}, 1), id="tab"),
        pytest.param(b"  up 1\n", ({}, 1), id="indented"),
        pytest.param(b"up 1 1700000000000\n", ({}, 1), id="timestamp"),
        pytest.param(b'up 1 # {trace="a b"} 0.6 17.5\n', ({}, 1), id="exemplar"),
        pytest.param(b'up{a="b"} 1 # {t="x"} 2\n', ({"a": "b"}, 1), id="labels-and-exemplar"),
        pytest.param(b"up{} 1\n", ({}, 1), id="empty-labels"),
        pytest.param(b'up{a="b",} 1\n', ({"a": "b"}, 1), id="trailing-comma"),
        pytest.param(b'up { a = "b" , c = "d" } 1\n', ({"a": "b", "c": "d"}, 1), id="spaces"),
        pytest.param(b'up{a="}{"} 1\n', ({"a": "}{"}, 1), id="braces-in-a-value"),
        pytest.param(b'up{a="x\\"y"} 1\n', ({"a": 'x"y'}, 1), id="escaped-quote"),
        pytest.param(b'up{a="\\\\"} 1\n', ({"a": "\\"}, 1), id="escaped-backslash-at-the-end"),
        pytest.param(b'up{a="1\\n2"} 1\n', ({"a": "1\n2"}, 1), id="escaped-newline"),
        pytest.param(b'up{a="\\\\n"} 1\n', ({"a": "\\n"}, 1), id="escaped-backslash-then-n"),
        pytest.param(b'up{a="up 7"} 1\n', ({"a": "up 7"}, 1), id="the-name-in-a-value"),
        pytest.param('up{a="höhe"} 1\n'.encode(), ({"a": "höhe"}, 1), id="utf-8"),
        pytest.param(b'up{a="b"}1\n', ({"a": "b"}, 1), id="no-blank-after-the-brace"),
        pytest.param(b"# HELP up is up 5\n# TYPE up gauge\nup 1\n", ({}, 1), id="help-and-type"),
        pytest.param(b"upper 3\nup_total 4\nup 1\n", ({}, 1), id="names-that-begin-alike"),
        pytest.param(b"cup 3\nup 1\n", ({}, 1), id="names-that-end-alike"),
        pytest.param(b"up 1\n# EOF\n", ({}, 1), id="openmetrics-end"),
        pytest.param(b"up 1e3\n", ({}, 1000), id="exponent"),
        pytest.param(b"up +Inf\n", ({}, math.inf), id="infinity"),
        pytest.param(b"up -Inf\n", ({}, -math.inf), id="minus-infinity"),
    ],
)
def test_reads(page, expected):
    assert one(page) == expected


def test_reads_not_a_number():
    assert math.isnan(values(b"up NaN\n")[0])


def test_reads_all_series_in_order():
    assert values(b'up{a="1"} 3\nup{a="2"} 1\nup{a="1"} 4\nother 9\n') == [3, 1, 4]


def test_comments_and_empty_lines_do_not_end_a_family():
    assert values(b"up 1\n\n# a remark\nup 2\n") == [1, 2]


def test_reads_totals_between_their_creation_times():
    page = b'x_total{a="1"} 3\nx_created{a="1"} 9\nx_total{a="2"} 4\nx_created{a="2"} 9\n'

    assert values(page, "x_total") == [3, 4]


@pytest.mark.parametrize("page", [b"", b"\n", b"# HELP up no sample\n", b"cup 1\n", b"upper 1\n"])
def test_finds_nothing_where_nothing_is(page):
    assert values(page) == []


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(b"up", id="name-alone"),
        pytest.param(b"up \nx 1\n", id="value-missing"),
        pytest.param(b"up one\n", id="word"),
        pytest.param(b"up 1_000\n", id="underscore"),
        pytest.param(b'up{a="b" 1\n', id="brace-not-closed"),
        pytest.param(b'up{a="b} 1\n', id="quote-not-closed"),
    ],
)
def test_a_broken_line_is_an_error_that_shows_it(page):
    with pytest.raises(PageError, match="in line 'up"):
        read(page, b"up")


def test_an_error_shows_no_more_than_a_line():
    with pytest.raises(PageError) as error:
        read(b"up x" + b"y" * 5000 + b"\nsecret 1\n", b"up")

    assert len(str(error.value)) < 200


@settings(max_examples=60)
@given(st.binary(max_size=60).map(lambda tail: b"up" + tail))
@example(b'up{a="\\')
@example(b"up{" + b'"' * 50)
def test_any_bytes_are_read_or_refused(page):
    with contextlib.suppress(PageError):
        assert all(isinstance(value, float) for value in values(page))


# -- against the reference parser ----------------------------------------------------------------

label_values = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")) | st.sampled_from('\\"\n{},= #'),
    max_size=8,
)
label_sets = st.dictionaries(st.sampled_from(["a", "le", "model_name"]), label_values, max_size=3)
numbers = st.floats(width=32) | st.integers(-(10**6), 10**12)
blanks = st.sampled_from([" ", "  ", "\t"])
tails = st.sampled_from(["", " 1700000000000", ' # {t="v"} 0.5', " "])
between = st.sampled_from(["", "# a remark\n", "\n", "# EOF-like remark\n"])


def escaped(value):
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@st.composite
def lines(draw, name):
    labels = draw(label_sets)
    inside = ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items())
    braces = f"{{{inside}{draw(st.sampled_from(['', ','])) if inside else ''}}}"
    shown = braces if labels else draw(st.sampled_from(["", "{}"]))
    value = repr(draw(numbers)).replace("inf", "Inf").replace("nan", "NaN")
    indent = draw(st.sampled_from(["", "", "", " ", "\t "]))
    return f"{draw(between)}{indent}{name}{shown}{draw(blanks)}{value}{draw(tails)}\n"


@st.composite
def pages(draw):
    text = ""
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        if draw(st.booleans()):
            text += f"# HELP {name} About {name} 5\n# TYPE {name} gauge\n"
        text += "".join(draw(st.lists(lines(name), max_size=4)))
    if draw(st.booleans()):
        text = text.rstrip("\n")
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


def reference(text, name):
    # As a file opened for reading would hand it over: universal newlines.
    families = text_string_to_metric_families(text.replace("\r\n", "\n"))
    return [
        (dict(sample.labels), float(sample.value))
        for family in families
        for sample in family.samples
        if sample.name == name
    ]


def plain(pairs):
    return [(labels, repr(value)) for labels, value in pairs]


@settings(max_examples=250)
@given(pages())
def test_equals_the_reference_parser(text):
    page = text.encode()
    for name in NAMES:
        ours = [(dict(series.labels), series.value) for series in read(page, name.encode())]
        assert plain(ours) == plain(reference(text, name))
