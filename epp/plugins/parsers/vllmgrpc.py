"""vllmgrpc-parser: vLLM's engine service, called by gateways that tokenize themselves."""

from array import array
from collections.abc import Mapping
from typing import ClassVar, Final

from epp.domain.request import Dialect, Head, Item, ParsedBody, Prompt
from epp.errors import BadRequest
from epp.request.gen.vllm_engine_pb2 import (
    EmbedRequest,
    GenerateRequest,
    MultimodalInputs,
    TokenizedInput,
)
from epp.request.grpc import decode, only_message
from epp.request.route import Reader, read_by

SERVICE: Final = "vllm.grpc.engine.VllmEngine"
NOT_READ: Final = (
    "Abort",
    "FlushCache",
    "GetLoads",
    "GetModelInfo",
    "GetServerInfo",
    "GetTokenizer",
    "HealthCheck",
    "StartProfile",
    "StopProfile",
    "SubscribeKvEvents",
)
"""Methods that run no prompt."""


def read_generate(body: bytes) -> ParsedBody:
    """Generate from token ids, or from text."""
    asked = decode(GenerateRequest.FromString, body)
    media = (asked.mm_inputs, *asked.extra_mm_inputs)
    sampling = asked.sampling_params
    return ParsedBody(
        kind="vllm_grpc_generate",
        dialect=Dialect.GRPC,
        stream=asked.stream,
        prompts=(_prompt(asked.tokenized, asked.text, items_of(media)),),
        max_output_tokens=sampling.max_tokens if sampling.HasField("max_tokens") else None,
    )


def read_embed(body: bytes) -> ParsedBody:
    """Embed token ids."""
    asked = decode(EmbedRequest.FromString, body)
    return ParsedBody(
        kind="vllm_grpc_embed",
        dialect=Dialect.GRPC,
        prompts=(_prompt(asked.tokenized, "", ()),),
    )


def read_other(body: bytes) -> ParsedBody:
    """What runs no prompt passes, as long as it is a message."""
    only_message(body)
    return ParsedBody(kind="passthrough", dialect=Dialect.GRPC)


def items_of(media: tuple[MultimodalInputs, ...]) -> tuple[Item, ...]:
    """Images and such, in the order they stand."""
    items = [
        Item(name, place.offset, place.length)
        for part in media
        for name, place in zip(part.mm_hashes, part.mm_placeholders, strict=False)
    ]
    return tuple(sorted(items, key=lambda item: item.start))


def _prompt(tokenized: TokenizedInput, text: str, items: tuple[Item, ...]) -> Prompt:
    if tokenized.input_ids:
        return Prompt(token_ids=array("I", tokenized.input_ids), items=items)
    if not (text or tokenized.original_text):
        raise BadRequest("input: missing or empty; give tokenized.input_ids, or text")
    return Prompt(text=(text or tokenized.original_text).encode())


READERS: Final[Mapping[str, Reader]] = {
    f"{SERVICE}/Generate": read_generate,
    f"{SERVICE}/Embed": read_embed,
    **{f"{SERVICE}/{method}": read_other for method in NOT_READ},
}


class VllmGrpcParser:
    """vllmgrpc-parser: reads calls of vLLM's engine service.

    Formula: one frame: token ids or text, max_tokens, images by their hashes; no model. Usage is
    read from the response's messages. Methods that run no prompt pass unread; a compressed message
    is refused.
    Parameters: none.
    Example:
        - type: vllmgrpc-parser
    """

    type: ClassVar[str] = "vllmgrpc-parser"
    paths: ClassVar[tuple[str, ...]] = tuple(READERS)

    def parse(self, head: Head, body: bytes) -> ParsedBody:
        """The body as its path says. Raises `BadRequest`."""
        return read_by(READERS, head, body)
