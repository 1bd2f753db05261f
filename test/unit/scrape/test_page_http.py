"""One answer read from bytes as they come, whatever the far side sends."""

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.scrape.http1 import Page, Unanswered
from epp.scrape.stats import ScrapeError

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "by-length": OK + b"Content-Length: 5\r\n\r\nhello",
    "by-chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "chunks-with-extras": OK
    + b"transfer-encoding: Chunked\r\n\r\n02;x=y\r\nhe\r\n3 \r\nllo\r\n0\r\nA: b\r\n\r\n",
    "to-the-end": OK + b"Content-Type: text/plain\r\n\r\nhello",
    "http-1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "no-reason": b"HTTP/1.1 200\r\ncontent-length:5\r\n\r\nhello",
    "closing": OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
    "same-length-twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "identity": OK + b"Content-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
}
KEPT = {
    "by-length",
    "by-chunks",
    "chunks-with-extras",
    "no-reason",
    "same-length-twice",
    "identity",
}


def read(*pieces, most=1000):
    page = Page(most)
    for piece in pieces:
        page.feed(piece)
    if page.body is None:
        page.end()
    return page


def reason(*pieces, most=1000):
    with pytest.raises(ScrapeError) as error:
        read(*pieces, most=most)
    return error.value.reason


@pytest.mark.parametrize("kind", ANSWERS)
def test_reads_a_page(kind):
    page = read(ANSWERS[kind])

    assert page.body == b"hello"
    assert page.keeps == (kind in KEPT)


@pytest.mark.parametrize("kind", ANSWERS)
def test_reads_the_same_page_in_single_bytes(kind):
    assert read(*(bytes([byte]) for byte in ANSWERS[kind])).body == b"hello"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", "redirect", id="redirect"),
        pytest.param(b"HTTP/1.1 500 No\r\n\r\n", "status", id="error"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", "status", id="no-content"),
        pytest.param(b"HTTP/2 200\r\n\r\n", "connect", id="other-version"),
        pytest.param(b"SSH-2.0\r\n\r\n", "connect", id="other-protocol"),
        pytest.param(OK + b"Content-Length: x\r\n\r\n", "connect", id="length-no-number"),
        pytest.param(OK + b"Content-Length: -5\r\n\r\n", "connect", id="length-negative"),
        pytest.param(
            OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "connect", id="two-lengths"
        ),
        pytest.param(
            OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "connect",
            id="length-and-chunks",
        ),
        pytest.param(OK + b"Transfer-Encoding: gzip\r\n\r\n", "connect", id="other-transfer"),
        pytest.param(
            OK + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "connect", id="compressed"
        ),
        pytest.param(OK + b"Content-Length: 5\r\n\r\nhello you", "connect", id="too-much"),
        pytest.param(OK + b"Content-Length: 5\r\n\r\nhell", "connect", id="cut-short"),
        pytest.param(OK + b"Content-Le", "connect", id="cut-in-the-headers"),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "connect", id="no-last-chunk"
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello, you there\r\n\r\n",
            "connect",
            id="no-chunk-size",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello, you there\r\n\r\n",
            "connect",
            id="chunk-longer-than-said",
        ),
        pytest.param(b"H" * 70_000, "connect", id="endless-headers"),
        pytest.param(OK + b"Content-Length: 1001\r\n\r\n", "size", id="announced-too-long"),
        pytest.param(OK + b"\r\n" + b"x" * 1001, "size", id="too-long-to-the-end"),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000, "size", id="chunks"
        ),
    ],
)
def test_refuses(answer, expected):
    assert reason(answer) == expected


def test_an_end_before_the_first_byte_is_told_apart():
    with pytest.raises(Unanswered):
        read()


@settings(max_examples=150)
@given(
    st.sampled_from(list(ANSWERS.values())),
    st.lists(st.integers(0, 120), max_size=5),
)
def test_how_bytes_are_cut_does_not_matter(answer, cuts):
    edges = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    pieces = [answer[a:b] for a, b in itertools.pairwise(edges)]

    assert read(*pieces).body == b"hello"


@settings(max_examples=150)
@given(st.lists(st.binary(max_size=30), max_size=5))
def test_any_bytes_become_a_page_or_an_error(pieces):
    with contextlib.suppress(ScrapeError):
        read(OK, b"Transfer-Encoding: chunked\r\n\r\n", *pieces)
