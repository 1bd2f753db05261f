"""Typed reading of request bodies; every refusal names its field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from vllm_sim.server.errors import ApiError, bad_request

if TYPE_CHECKING:
    from aiohttp import web

MAX_CHOICES = 64


async def read_json(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; ApiError 400 when it is none."""
    try:
        body = msgspec.json.decode(await request.read())
    except (msgspec.DecodeError, RecursionError):
        raise bad_request("The request body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise bad_request("The request body must be a JSON object.")
    return body


def integer(body: dict[str, Any], name: str, default: int | None, *, least: int = 0) -> int | None:
    """An integer field at or above `least`, or the default when it is absent or null."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_request(f"{name} must be an integer", name)
    if value < least:
        raise bad_request(f"{name} must be at least {least}, got {value}", name)
    return value


def number(body: dict[str, Any], name: str) -> float:
    """A number field, 0 when absent."""
    value = body.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise bad_request(f"{name} must be a number", name)
    return float(value)


def flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise bad_request(f"{name} must be true or false", name)
    return value


def mapping(body: dict[str, Any], name: str) -> dict[str, Any]:
    """An object field, empty when absent."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_request(f"{name} must be an object", name)
    return value


def text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"{name} must be a string", name)
    return value


def messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The `messages` field: a row of objects with a role, at least one."""
    value = body.get("messages")
    if not isinstance(value, list) or not value:
        raise bad_request("messages must be a list with at least one message", "messages")
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise bad_request("every message must be an object with a role", "messages")
    return value


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a body says about its answer."""

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

    @classmethod
    def of(cls, body: dict[str, Any], *, limit: str = "max_tokens") -> Wishes:
        """Reads the common fields; `limit` names the one that bounds the answer."""
        options = mapping(body, "stream_options")
        stream = flag(body, "stream")
        if options and not stream:
            raise bad_request("Stream options can only be defined when `stream=True`.")
        choices = integer(body, "n", 1, least=1) or 1
        if choices > MAX_CHOICES:
            raise bad_request(f"n must be at most {MAX_CHOICES}", "n")
        most = integer(body, "max_completion_tokens", None, least=1)
        if most is None:
            most = integer(body, limit, None, least=0 if limit == "max_tokens" else 1)
        salt = text(body, "cache_salt")
        if salt == "":
            raise bad_request("Parameter 'cache_salt' must be a non-empty string.", "cache_salt")
        return cls(
            max_tokens=most,
            min_tokens=integer(body, "min_tokens", 0) or 0,
            ignore_eos=flag(body, "ignore_eos"),
            choices=choices,
            stop=_stops(body),
            stream=stream,
            include_usage=flag(options, "include_usage"),
            continuous_usage=flag(options, "continuous_usage_stats"),
            priority=integer(body, "priority", 0, least=-(2**31)) or 0,
            salt=salt,
            transfer=mapping(body, "kv_transfer_params"),
            threshold=number(body, "cache_hit_threshold"),
        )

    @property
    def hold(self) -> bool:
        """Prefill for a remote decoder."""
        return bool(self.transfer.get("do_remote_decode"))

    @property
    def remote(self) -> bool:
        """Decode what a remote replica has prefilled."""
        return bool(self.transfer.get("do_remote_prefill"))


def _stops(body: dict[str, Any]) -> tuple[str, ...]:
    value = body.get("stop") or body.get("stop_sequences") or ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(item for item in value if item)
    raise bad_request("stop must be a string or a list of strings", "stop")


def check_length(prompt: int, wanted: int | None, limit: int) -> int:
    """Tokens left for the answer; ApiError 400 as vLLM words it."""
    room = limit - prompt
    if prompt < 1:
        raise bad_request("The decoder prompt cannot be empty", "prompt")
    if room < 1:
        raise ApiError(
            400,
            f"This model's maximum context length is {limit} tokens. However, your request has "
            f"{prompt} input tokens. Please reduce the length of the input messages.",
            param="input_tokens",
        )
    if wanted is not None and wanted > room:
        raise ApiError(
            400,
            f"'max_tokens' or 'max_completion_tokens' is too large: {wanted}. This model's maximum "
            f"context length is {limit} tokens and your request has {prompt} input tokens "
            f"({wanted} > {limit} - {prompt}).",
            param="max_tokens",
        )
    return room
