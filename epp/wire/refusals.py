"""A refusal as the client sees it: status, headers, and the error object of the API it called."""

from typing import Final, cast

import msgspec

from epp.domain.headers import DROPPED_REASON, WORKLOAD_ID_SHOWN
from epp.domain.request import Dialect, Head
from epp.domain.workload import workload_of
from epp.errors import Refused
from epp.request.grpc import is_grpc
from epp.wire.calls import Status
from epp.wire.gen.base_pb2 import HeaderValueOption
from epp.wire.gen.external_processor_pb2 import ImmediateResponse, ProcessingResponse
from epp.wire.gen.http_status_pb2 import StatusCode

_OVERWRITE: Final = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD

_OPENAI_TYPES: Final = {429: "rate_limit_error", 401: "authentication_error"}
_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}

_GRPC_STATUS: Final = {
    400: Status.INVALID_ARGUMENT,
    412: Status.FAILED_PRECONDITION,
    413: Status.RESOURCE_EXHAUSTED,
    429: Status.RESOURCE_EXHAUSTED,
    503: Status.UNAVAILABLE,
}


def dialect_of(head: Head | None) -> Dialect:
    """Whose error object the caller of this path reads."""
    if head is not None and is_grpc(head.headers):
        return Dialect.GRPC
    if head is not None and "/v1/messages/" in f"{head.path}/":
        return Dialect.ANTHROPIC
    return Dialect.OPENAI


def refusal(refused: Refused, head: Head | None) -> bytes:
    """The ext_proc reply that answers the client of this `head` in the endpoint's stead."""
    dialect = dialect_of(head)
    reply = ProcessingResponse()
    answer = reply.immediate_response
    answer.status.code = cast("StatusCode", refused.status)
    answer.body = error_body(refused, dialect)
    answer.details = f"epp_{refused.reason or refused.code}"
    if dialect is Dialect.GRPC:
        answer.grpc_status.status = _GRPC_STATUS.get(refused.status, Status.INTERNAL)
    for name, value in _headers(refused, dialect).items():
        _set(answer, name, value)
    if head is not None and (workload := workload_of(head.headers).id):
        _set(answer, WORKLOAD_ID_SHOWN, workload)
    return reply.SerializeToString()


def error_body(refused: Refused, dialect: Dialect) -> bytes:
    """JSON: OpenAI's `{"error": {...}}`, or Anthropic's `{"type": "error", "error": {...}}`.

    For gRPC the text alone: the gateway makes a `grpc-message` of it.
    """
    if dialect is Dialect.GRPC:
        return refused.message.encode()
    if dialect is Dialect.ANTHROPIC:
        error = {"type": _anthropic_type(refused.status), "message": refused.message}
        return msgspec.json.encode({"type": "error", "error": error})
    return msgspec.json.encode(
        {
            "error": {
                "message": refused.message,
                "type": _openai_type(refused.status),
                "param": None,
                "code": refused.reason or None,
            }
        }
    )


def _headers(refused: Refused, dialect: Dialect) -> dict[str, str]:
    headers = {} if dialect is Dialect.GRPC else {"content-type": "application/json"}
    if refused.reason:
        headers[DROPPED_REASON] = refused.reason
    if refused.retry_after is not None:
        headers["retry-after"] = str(refused.retry_after)
    return headers


def _set(answer: ImmediateResponse, name: str, value: str) -> None:
    option = answer.headers.set_headers.add(append_action=_OVERWRITE)
    option.header.key = name
    option.header.raw_value = value.encode()


def _openai_type(status: int) -> str:
    fallback = "server_error" if status >= 500 else "invalid_request_error"
    return _OPENAI_TYPES.get(status, fallback)


def _anthropic_type(status: int) -> str:
    fallback = "api_error" if status >= 500 else "invalid_request_error"
    return _ANTHROPIC_TYPES.get(status, fallback)
