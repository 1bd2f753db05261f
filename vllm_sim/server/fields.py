"""Typed reading of request bodies; every refusal names its field."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from vllm_sim.server.errors import Malformed, bad_request, malformed

if TYPE_CHECKING:
    from aiohttp import web

MAX_CHOICES = 64
UNNAMED = frozenset({"n", "min_tokens"})
"""Fields whose refusal names no param, as in vLLM."""


async def read_json(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; ApiError 400 when it is none."""
    data = await request.read()
    try:
        body = msgspec.json.decode(data) if data else None
    except (msgspec.DecodeError, RecursionError):
        raise _no_json(data) from None
    if not isinstance(body, dict):
        raise malformed("The request body must be a JSON object.")
    return body


def _no_json(data: bytes) -> Malformed:
    """The refusal that tells at which character the body stops being JSON."""
    place = "body"
    with suppress(UnicodeDecodeError, RecursionError):
        try:
            json.loads(data)
        except json.JSONDecodeError as error:
            place = f"body.{error.pos}"
    return Malformed("The request body is not valid JSON.", place)


def integer(body: dict[str, Any], name: str, default: int | None, *, least: int = 0) -> int | None:
    """An integer field at or above `least`, or the default when it is absent or null."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise malformed(f"{name} must be an integer", name)
    if value < least:
        raise bad_request(f"{name} must be at least {least}, got {value}", _sampled(name))
    return value


def _sampled(name: str) -> str | None:
    """The param of a value out of range: sampling fields are named, counts of answers are not."""
    return None if name in UNNAMED else name


def number(body: dict[str, Any], name: str, default: float = 0.0) -> float:
    """A number field, the default when absent or null."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise malformed(f"{name} must be a number", name)
    return float(value)


def flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise malformed(f"{name} must be true or false", name)
    return value


def mapping(body: dict[str, Any], name: str) -> dict[str, Any]:
    """An object field, empty when absent."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise malformed(f"{name} must be an object", name)
    return value


def text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise malformed(f"{name} must be a string", name)
    return value


def messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The `messages` field: a row of objects with a role, at least one."""
    value = body.get("messages")
    if not isinstance(value, list):
        raise malformed("messages must be a list of messages", "messages")
    if not value:
        raise bad_request("An empty conversation has nothing to answer; send a message.")
    for number, message in enumerate(value):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise malformed("every message must be an object with a role", f"messages.{number}")
    return value


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a body says about its answer.

    `allowed` are the only token ids the answer may have, none: any. `show_ids` asks for the ids of
    prompt and answer, `echo` for the prompt before the answer, `logprobs` for so many alternatives
    to each token.
    """

    max_tokens: int | None
    min_tokens: int
    ignore_eos: bool
    choices: int
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    continuous_usage: bool
    priority: int
    salt: str | None
    transfer: dict[str, Any]
    threshold: float
    allowed: tuple[int, ...]
    show_ids: bool
    echo: bool
    logprobs: int | None

    @classmethod
    def of(cls, body: dict[str, Any], *, limit: str = "max_tokens") -> Wishes:
        """Reads the common fields; `limit` names the one that bounds the answer."""
        options = mapping(body, "stream_options")
        stream = flag(body, "stream")
        if options and not stream:
            raise bad_request(
                "Stream options can only be defined when `stream=True`.", "stream_options"
            )
        most, least = _bounds(body, limit)
        salt = text(body, "cache_salt")
        if salt == "":
            raise bad_request("Parameter 'cache_salt' must be a non-empty string.", "cache_salt")
        _check_sampling(body)
        return cls(
            max_tokens=most,
            min_tokens=least,
            ignore_eos=flag(body, "ignore_eos"),
            choices=_choices(body),
            stop=_stops(body),
            stream=stream,
            include_usage=flag(options, "include_usage"),
            continuous_usage=flag(options, "continuous_usage_stats"),
            priority=integer(body, "priority", 0, least=-(2**31)) or 0,
            salt=salt,
            transfer=mapping(body, "kv_transfer_params"),
            threshold=number(body, "cache_hit_threshold"),
            allowed=_token_ids(body, "allowed_token_ids"),
            show_ids=flag(body, "return_token_ids"),
            echo=flag(body, "echo"),
            logprobs=_logprobs(body),
        )

    @property
    def hold(self) -> bool:
        """Prefill for a remote decoder."""
        return bool(self.transfer.get("do_remote_decode"))

    @property
    def remote(self) -> bool:
        """Decode what a remote replica has prefilled."""
        return bool(self.transfer.get("do_remote_prefill"))


def _choices(body: dict[str, Any]) -> int:
    choices = integer(body, "n", 1, least=1) or 1
    if choices > MAX_CHOICES:
        raise bad_request(f"n must be at most {MAX_CHOICES}")
    return choices


def _bounds(body: dict[str, Any], limit: str) -> tuple[int | None, int]:
    """The greatest and least number of tokens that are wished for."""
    most = integer(body, "max_completion_tokens", None)
    if most is None:
        most = integer(body, limit, None, least=-(2**31))
    if most is not None and most < 1:
        raise bad_request(f"max_tokens must be at least 1, got {most}.", "max_tokens")
    least = integer(body, "min_tokens", 0) or 0
    if most is not None and least > most:
        raise bad_request(f"min_tokens must be at most max_tokens={most}, got {least}.")
    return most, least


def _check_sampling(body: dict[str, Any]) -> None:
    """Ranges of fields that change nothing here, but are refused by vLLM."""
    if number(body, "temperature", 1.0) < 0:
        raise bad_request("temperature must not be negative", "temperature")
    if not 0 < number(body, "top_p", 1.0) <= 1:
        raise bad_request("top_p must lie in (0, 1]", "top_p")


def _logprobs(body: dict[str, Any]) -> int | None:
    """Alternatives to each token; None where log probabilities are not asked for. A chat asks with
    a flag and a number beside it, a text completion with the number alone."""
    asked = body.get("logprobs")
    top = integer(body, "top_logprobs", 0)
    if isinstance(asked, bool) or asked is None:
        if top and not asked:
            raise bad_request("when using `top_logprobs`, `logprobs` must be true.", "top_logprobs")
        return top if asked else None
    return integer(body, "logprobs", None)


def _token_ids(body: dict[str, Any], name: str) -> tuple[int, ...]:
    value = body.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise malformed(f"{name} must be a list of token ids", name)
    return tuple(value)


def _stops(body: dict[str, Any]) -> tuple[str, ...]:
    value = body.get("stop") or body.get("stop_sequences") or ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(item for item in value if item)
    raise malformed("stop must be a string or a list of strings", "stop")


def check_length(prompt: int, wanted: int | None, limit: int) -> int:
    """Tokens left for the answer, which ends there whatever it wanted; ApiError 400 when the prompt
    leaves none, or when more is wanted than the model has positions."""
    if prompt < 1:
        raise bad_request("The decoder prompt cannot be empty", "prompt")
    if wanted is not None and wanted > limit:
        raise bad_request(
            f"max_tokens={wanted} cannot be greater than max_model_len={limit}.", "max_tokens"
        )
    if prompt >= limit:
        raise bad_request(
            f"This model's maximum context length is {limit} tokens. However, your request has "
            f"{prompt} input tokens. Please reduce the length of the input messages.",
            "input_tokens",
        )
    return limit - prompt
