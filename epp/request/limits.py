"""How large a request may be in every direction it can grow."""

from dataclasses import dataclass
from typing import Final


@dataclass(slots=True, frozen=True)
class Limits:
    """Upper bounds on one request; over one of them it is refused, never cut."""

    body_bytes: int = 32 * 1024 * 1024
    header_bytes: int = 64 * 1024
    """All names and values of the header block together."""
    json_depth: int = 64
    """Objects and arrays inside one another, the outermost counted as 1."""
    prompts: int = 2048
    """In one body; each of them is tokenized, hashed and matched on its own."""
    model_chars: int = 256
    """Of a model's name, in the body and in a header."""
    header_chars: int = 256
    """Of one control header's value: objective, fairness id."""


DEFAULT_LIMITS: Final = Limits()
