"""A tokenizer of our own, loaded from a file the user gives: plain prompts in tokens.

It knows no chat template, so it serves completions alone. The library `tokenizers` is imported only
when a file is named; it is no dependency of the picker.
"""

import asyncio
import importlib
from pathlib import Path
from typing import Any, Final

from epp.domain.request import Request
from epp.tokens.tokenized import Tokenized, ids_of

MOST_BYTES: Final = 2 << 20
"""Longer prompts are not tokenized here: they would take a core for a second."""
LARGEST_FILE: Final = 64 << 20


class LocalTokenizer:
    """Reads `tokenizer.json` at `path`. Raises ValueError when that cannot be done."""

    def __init__(self, path: str) -> None:
        self._tokenizer = load(path)

    async def tokens(self, request: Request) -> Tokenized | None:
        """The prompts of a completions request, worked out off the loop; None for others."""
        texts = [prompt.text for prompt in request.prompts]
        if request.kind != "completions" or sum(map(len, texts)) > MOST_BYTES:
            return None
        return Tokenized(await asyncio.to_thread(self._encode, texts), by="local")

    def _encode(self, texts: list[bytes]) -> tuple[Any, ...]:
        plain = [text.decode("utf-8", "replace") for text in texts]
        return tuple(ids_of(made.ids) for made in self._tokenizer.encode_batch(plain))


def load(path: str) -> Any:
    """The library's tokenizer. Raises ValueError naming what is missing and the fix."""
    try:
        library = importlib.import_module("tokenizers")
    except ImportError:
        raise ValueError("local: the package `tokenizers` is missing; install it") from None
    try:
        if Path(path).stat().st_size > LARGEST_FILE:
            raise ValueError(f"local: {path} is larger than {LARGEST_FILE} bytes")
        return library.Tokenizer.from_file(path)
    except ValueError:
        raise
    except Exception as error:  # the library raises bare Exceptions
        raise ValueError(f"local: {path} is no tokenizer.json: {error}") from error
