"""What a prompt is made of, as bytes or token ids that grow at the end when a conversation does."""

from collections.abc import Sequence
from typing import TypeAlias, TypeVar, cast

import msgspec

from epp.domain.request import Prompt
from epp.errors import BadRequest

T = TypeVar("T")

PromptField: TypeAlias = str | list[str | int | list[int]] | None
"""A string, several strings, token ids, or several lists of token ids."""

MAX_TOKEN_ID = 2**32 - 1


def open_ended(*parts: msgspec.Raw) -> Prompt:
    """The JSON of `parts` as it came, the last one without its closing bracket.

    So the text of one turn is a prefix of the next turn's.
    """
    text = b"".join(parts)
    return Prompt(text=text[:-1].rstrip() if text.endswith(b"]") else text)


def need(field: msgspec.Raw, name: str) -> None:
    """Raise `BadRequest` unless a required array is there and holds something."""
    if is_empty(field):
        raise BadRequest(f"{name}: missing or empty; give at least one")
    if bytes(memoryview(field)[:1]) != b"[":
        raise BadRequest(f"{name}: not an array; give a list")


def is_empty(field: msgspec.Raw) -> bool:
    """Whether a field is missing, null, or an empty string or array."""
    start = bytes(memoryview(field)[:64])
    return start in (b"", b"null", b'""') or start.removeprefix(b"[").lstrip() == b"]"


def prompts_of(
    value: str | Sequence[str | int | list[int]] | None, field: str
) -> tuple[Prompt, ...]:
    """The prompts in a `PromptField`, one for each that the model server will run.

    Raises `BadRequest` naming `field` when it is missing, empty, or mixes kinds.
    """
    if isinstance(value, str):
        return (Prompt(text=value.encode()),)
    if not value:
        raise BadRequest(f"{field}: missing or empty; give a string or token ids")
    match value[0]:
        case str():
            return tuple(Prompt(text=text.encode()) for text in _all(str, value, field))
        case int():
            return (Prompt(token_ids=token_ids(_all(int, value, field), field)),)
        case list():
            lists = _all(list, value, field)
            return tuple(Prompt(token_ids=token_ids(ids, field)) for ids in lists)


def token_ids(ids: list[int], field: str) -> list[int]:
    """`ids` if all lie in 0..2**32-1, else `BadRequest`: what hashes them counts on four bytes."""
    if not ids:
        raise BadRequest(f"{field}: an empty list of token ids; give at least one")
    if min(ids) < 0 or max(ids) > MAX_TOKEN_ID:
        raise BadRequest(f"{field}: token id out of range; give ids in 0..{MAX_TOKEN_ID}")
    return ids


def _all(kind: type[T], values: Sequence[str | int | list[int]], field: str) -> list[T]:
    if any(type(value) is not kind for value in values):
        raise BadRequest(f"{field}: strings and token ids mixed; give one kind")
    return cast("list[T]", values)
