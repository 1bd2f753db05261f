"""Failures a client may see, in vLLM's shapes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

KINDS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    413: "RequestEntityTooLarge",
    429: "RateLimitError",
    500: "InternalServerError",
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
}


class ApiError(Exception):
    """A refusal with its status; `param` names the field at fault, `kind` the error's type."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, kind: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.kind = kind or KINDS.get(status) or HTTPStatus(status).phrase

    def openai(self) -> dict[str, Any]:
        """The error object of vLLM's OpenAI server."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.status,
            }
        }

    def anthropic(self) -> dict[str, Any]:
        """The error object of the messages API."""
        return {"type": "error", "error": {"type": self.kind, "message": self.message}}


class Malformed(ApiError):
    """A body or query that is not even of the right form; vLLM refuses it before any handler.

    `place` is where: `body.max_tokens`, `query.level`. The messages API has no form of its own for
    these.
    """

    def __init__(self, message: str, place: str) -> None:
        phrase = HTTPStatus.BAD_REQUEST.phrase
        super().__init__(400, f"1 validation error:\n  {message}", param=place, kind=phrase)

    def anthropic(self) -> dict[str, Any]:
        return self.openai()


def bad_request(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, param=param)


def unknown_model(name: str) -> ApiError:
    return ApiError(404, f"The model `{name}` does not exist.", param="model")


def malformed(message: str, name: str = "") -> Malformed:
    """The refusal of a body whose field `name` has the wrong form."""
    return Malformed(message, f"body.{name}" if name else "body")
