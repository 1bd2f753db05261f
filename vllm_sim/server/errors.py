"""Failures a client may see, in vLLM's shapes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

KINDS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    413: "RequestEntityTooLarge",
    429: "RateLimitError",
    500: "InternalServerError",
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
}


class ApiError(Exception):
    """A refusal with its status; `param` names the field at fault."""

    def __init__(self, status: int, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param

    @property
    def kind(self) -> str:
        return KINDS.get(self.status) or HTTPStatus(self.status).phrase

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
        kinds = {400: "invalid_request_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": self.message}}


def bad_request(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, param=param)


def unknown_model(name: str) -> ApiError:
    return ApiError(404, f"The model `{name}` does not exist.", param="model")
