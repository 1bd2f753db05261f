"""vllmhttp-parser: vLLM's own token-level API beside the OpenAI paths it serves."""

from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec

from epp.domain.request import Head, ParsedBody, Prompt
from epp.errors import BadRequest
from epp.request.decode import decode
from epp.request.openai import READERS as OPENAI_READERS
from epp.request.output import Cap, first_cap
from epp.request.prompts import ids_of
from epp.request.route import Reader, read_by
from epp.tokens.render import Features, items_of

_ABSENT: Final = msgspec.Raw()


class _Sampling(msgspec.Struct):
    max_tokens: Cap = None


class _Generate(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    cache_salt: str | None = None
    token_ids: msgspec.Raw = _ABSENT
    sampling_params: _Sampling | None = None
    features: Features | None = None


class _Tokenize(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None
    messages: msgspec.Raw = _ABSENT


_GENERATE: Final = msgspec.json.Decoder(_Generate)
_TOKENIZE: Final = msgspec.json.Decoder(_Tokenize)


def read_generate(body: bytes) -> ParsedBody:
    """Generate from token ids; images and such are told apart by their hashes."""
    asked = decode(_GENERATE, body)
    ids = ids_of(asked.token_ids, "token_ids")
    sampling = asked.sampling_params or _Sampling()
    return ParsedBody(
        kind="generate",
        model=asked.model or "",
        stream=bool(asked.stream),
        prompts=(Prompt(token_ids=ids, items=items_of(asked.features)),),
        max_output_tokens=first_cap(max_tokens=sampling.max_tokens),
        cache_salt=asked.cache_salt or "",
    )


def read_tokenize(body: bytes) -> ParsedBody:
    """Tokenizing runs nothing: no prompt. A client sends `prompt` or `messages`."""
    asked = decode(_TOKENIZE, body)
    if asked.prompt is None and not bytes(asked.messages):
        raise BadRequest("prompt: missing; give prompt or messages")
    return ParsedBody(kind="tokenize", model=asked.model or "")


READERS: Final[Mapping[str, Reader]] = {
    **OPENAI_READERS,
    "inference/v1/generate": read_generate,
    "tokenize": read_tokenize,
}


class VllmHttpParser:
    """vllmhttp-parser: reads what vLLM's HTTP server takes.

    Formula: OpenAI paths as openai-parser does; of generate `token_ids`, `features` (images by
    their hashes), sampling_params.max_tokens and cache_salt. Tokenizing has no prompt.
    Parameters: none.
    Example:
        - type: vllmhttp-parser
    """

    type: ClassVar[str] = "vllmhttp-parser"
    paths: ClassVar[tuple[str, ...]] = tuple(READERS)

    def parse(self, head: Head, body: bytes) -> ParsedBody:
        """The body as its path says. Raises `BadRequest`, `TooLarge`."""
        return read_by(READERS, head, body)
