"""A body becomes a typed value, or a refusal that names the field and shows nothing of the body."""

import re
from typing import Final, TypeVar

import msgspec

from epp.errors import BadRequest, TooLarge

T = TypeVar("T")

_BOM: Final = b"\xef\xbb\xbf"
_AT: Final = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<where>[^`]*)`$")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """`body` as the decoder's type; of equal keys the last wins.

    Raises `BadRequest` for what is not UTF-8, not JSON or of a wrong type, `TooLarge` for nesting
    that exhausts the stack.
    """
    _check_utf8(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(_told(str(error))) from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"body: not valid JSON: {error}; send one JSON object") from None
    except RecursionError:
        raise TooLarge("body: JSON nested too deep; flatten it") from None


def _check_utf8(body: bytes) -> None:
    """The decoder skips over strings nobody asked for, so it cannot be relied on for this."""
    if body.startswith(_BOM):
        raise BadRequest("body: begins with a byte order mark; send UTF-8 without one")
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"body: not UTF-8 at byte {error.start}; send UTF-8") from None


def _told(text: str) -> str:
    """The decoder's complaint (types and positions, never values) with its field first."""
    found = _AT.match(text)
    if found is None:
        return f"body: {text}; send a JSON object"
    return f"{found['where'] or 'body'}: {found['what']}"
