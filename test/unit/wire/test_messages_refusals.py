"""Refusals as clients see them: one table of status, headers and bodies."""

import json

import pytest
from support.ext_proc import headers_set, read

from epp.domain.request import Dialect, Head
from epp.errors import (
    BadRequest,
    Expired,
    ExpiredWithoutEndpoints,
    InternalFault,
    NoEndpoints,
    NotCached,
    Overloaded,
    QueueFull,
    QueueFullWithoutEndpoints,
    Saturated,
    TooLarge,
)
from epp.wire.refusals import dialect_of, refusal

OPENAI = Head({":path": "/v1/completions"})
ANTHROPIC = Head({":path": "/v1/messages"})


def seen(refused, head=OPENAI):
    """Status, headers and parsed body of a refusal."""
    answer = read(refusal(refused, head)).immediate_response
    return answer.status.code, headers_set(answer.headers), json.loads(answer.body)


@pytest.mark.parametrize(
    ("refused", "status", "reason", "retry_after"),
    [
        pytest.param(BadRequest("no"), 400, None, None, id="bad request"),
        pytest.param(TooLarge("no"), 413, None, None, id="too large"),
        pytest.param(NotCached("no"), 412, None, None, id="not cached"),
        pytest.param(NoEndpoints("no"), 503, "no-endpoints", "1", id="no endpoints"),
        pytest.param(Overloaded("no", 7), 503, "overloaded", "7", id="overloaded"),
        pytest.param(Saturated("no"), 429, "rejected-saturated", "1", id="saturated"),
        pytest.param(QueueFull("no"), 429, "rejected-capacity", "1", id="queue full"),
        pytest.param(
            QueueFullWithoutEndpoints("no"), 503, "no-endpoints", "1", id="queue full, empty pool"
        ),
        pytest.param(Expired("no"), 429, "expired", "1", id="expired"),
        pytest.param(ExpiredWithoutEndpoints("no"), 503, "expired", "1", id="expired, empty pool"),
        pytest.param(InternalFault("id"), 500, None, None, id="our fault"),
    ],
)
def test_status_reason_and_retry_after(refused, status, reason, retry_after):
    code, headers, _ = seen(refused)

    assert code == status
    assert headers.get("x-llm-d-request-dropped-reason") == reason
    assert headers.get("retry-after") == retry_after
    assert headers["content-type"] == "application/json"


def test_a_refusal_names_the_workload_of_its_request():
    said = {":path": "/v1/completions", "x-workload-context": '{"workload_id": "nightly"}'}

    assert seen(Saturated("no"), Head(said))[1]["x-workload-id"] == "nightly"
    assert "x-workload-id" not in seen(Saturated("no"))[1]


def test_openai_callers_get_their_error_object():
    assert seen(Saturated("the pool is saturated"))[2] == {
        "error": {
            "message": "the pool is saturated",
            "type": "rate_limit_error",
            "param": None,
            "code": "rejected-saturated",
        }
    }


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        (BadRequest("no"), "invalid_request_error"),
        (TooLarge("no"), "request_too_large"),
        (Saturated("no"), "rate_limit_error"),
        (NoEndpoints("no"), "overloaded_error"),
        (InternalFault("id"), "api_error"),
    ],
)
def test_anthropic_callers_get_theirs(refused, kind):
    _, _, body = seen(refused, ANTHROPIC)

    assert body == {"type": "error", "error": {"type": kind, "message": refused.message}}


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages", Dialect.ANTHROPIC),
        ("/v1/messages/count_tokens", Dialect.ANTHROPIC),
        ("/team-a/v1/messages?beta=true", Dialect.ANTHROPIC),
        ("/v1/chat/completions", Dialect.OPENAI),
        ("/v1/messagesque", Dialect.OPENAI),
        ("/v1/threads/t1/messages", Dialect.OPENAI),
        ("/v1/models", Dialect.OPENAI),
    ],
)
def test_the_path_says_whose_error_object_is_read(path, dialect):
    assert dialect_of(Head({":path": path})) is dialect


def test_without_headers_it_is_openai():
    assert dialect_of(None) is Dialect.OPENAI


def test_a_fault_carries_its_id():
    _, _, body = seen(InternalFault("f-1"))

    assert "f-1" in body["error"]["message"]
