"""openai-parser: chat, completions, embeddings, responses and their kin."""

from typing import ClassVar

from epp.domain.request import Head, ParsedBody
from epp.request.openai import READERS
from epp.request.route import read_by


class OpenAIParser:
    """openai-parser: reads what OpenAI clients send.

    Formula: the prompt as it came, of chat, completions, embeddings, responses and their kin;
    max_completion_tokens, max_tokens or max_output_tokens; cache_salt.
    Parameters: none.
    Example:
        - type: openai-parser
    """

    type: ClassVar[str] = "openai-parser"
    paths: ClassVar[tuple[str, ...]] = tuple(READERS)

    def parse(self, head: Head, body: bytes) -> ParsedBody:
        """The body as its path says. Raises `BadRequest`, `TooLarge`."""
        return read_by(READERS, head, body)
