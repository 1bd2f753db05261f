"""sglanghttp-parser: SGLang's native generate call."""

from typing import ClassVar, Final

import msgspec

from epp.domain.request import Head, ParsedBody, Prompt
from epp.request.decode import decode
from epp.request.output import Cap, first_cap
from epp.request.prompts import is_empty, prompts_of

_ABSENT: Final = msgspec.Raw()


class _Sampling(msgspec.Struct):
    max_new_tokens: Cap = None


class _Generate(msgspec.Struct):
    stream: bool | None = None
    text: msgspec.Raw = _ABSENT
    input_ids: msgspec.Raw = _ABSENT
    extra_key: str | None = None
    sampling_params: _Sampling | list[_Sampling] | None = None


_GENERATE: Final = msgspec.json.Decoder(_Generate)


class SGLangHttpParser:
    """sglanghttp-parser: reads SGLang's native call.

    Formula: `text` or `input_ids`, `extra_key` as salt, max_new_tokens; no model.
    Parameters: none.
    Example:
        - type: sglanghttp-parser
    """

    type: ClassVar[str] = "sglanghttp-parser"
    paths: ClassVar[tuple[str, ...]] = ("generate",)

    def parse(self, head: Head, body: bytes) -> ParsedBody:
        """The body of a generate call. Raises `BadRequest`, `TooLarge`."""
        asked = decode(_GENERATE, body)
        return ParsedBody(
            kind="sglang_generate",
            stream=bool(asked.stream),
            prompts=_prompts(asked),
            max_output_tokens=_cap(asked.sampling_params),
            cache_salt=asked.extra_key or "",
        )


def _prompts(asked: _Generate) -> tuple[Prompt, ...]:
    if is_empty(asked.text):
        return prompts_of(asked.input_ids, "input_ids")
    return prompts_of(asked.text, "text")


def _cap(sampling: _Sampling | list[_Sampling] | None) -> int | None:
    """One for all prompts, or the largest where each has its own."""
    each = sampling if isinstance(sampling, list) else [sampling or _Sampling()]
    caps = [first_cap(max_new_tokens=one.max_new_tokens) for one in each]
    return max((cap for cap in caps if cap is not None), default=None)
