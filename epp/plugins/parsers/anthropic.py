"""anthropic-parser: messages, and counting their tokens."""

from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec

from epp.domain.request import Dialect, Head, ParsedBody
from epp.request.decode import decode
from epp.request.output import Cap, first_cap
from epp.request.prompts import need, open_ended
from epp.request.route import Reader, read_by

_ABSENT: Final = msgspec.Raw()


class _Messages(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    cache_salt: str | None = None
    messages: msgspec.Raw = _ABSENT
    system: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    max_tokens: Cap = None


_MESSAGES: Final = msgspec.json.Decoder(_Messages)


def read_messages(body: bytes) -> ParsedBody:
    """Messages: the prompt is the JSON of tools, system, then messages."""
    asked = decode(_MESSAGES, body)
    need(asked.messages, "messages")
    return ParsedBody(
        kind="messages",
        dialect=Dialect.ANTHROPIC,
        model=asked.model or "",
        stream=bool(asked.stream),
        prompts=(open_ended(asked.tools, asked.system, asked.messages),),
        max_output_tokens=first_cap(max_tokens=asked.max_tokens),
        cache_salt=asked.cache_salt or "",
    )


def read_count_tokens(body: bytes) -> ParsedBody:
    """Counting runs nothing: no prompt."""
    asked = decode(_MESSAGES, body)
    need(asked.messages, "messages")
    return ParsedBody(kind="count_tokens", dialect=Dialect.ANTHROPIC, model=asked.model or "")


READERS: Final[Mapping[str, Reader]] = {
    "messages": read_messages,
    "messages/count_tokens": read_count_tokens,
}


class AnthropicParser:
    """anthropic-parser: reads what Anthropic clients send.

    Formula: the prompt is tools, system, messages; max_tokens; cache_salt. Counting has none.
    Parameters: none.
    Example:
        - type: anthropic-parser
    """

    type: ClassVar[str] = "anthropic-parser"
    paths: ClassVar[tuple[str, ...]] = tuple(READERS)

    def parse(self, head: Head, body: bytes) -> ParsedBody:
        """The body as its path says. Raises `BadRequest`, `TooLarge`."""
        return read_by(READERS, head, body)
