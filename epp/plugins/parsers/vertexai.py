"""vertexai-parser: OpenAI bodies inside of Vertex AI's gRPC calls."""

from typing import ClassVar, Final

import msgspec

from epp.domain.request import Dialect, Head, ParsedBody
from epp.request.decode import decode as decode_json
from epp.request.gen.prediction_service_pb2 import RawPredictRequest
from epp.request.grpc import decode
from epp.request.openai import read_chat, read_completions

_SERVICES: Final = tuple(
    f"google.cloud.aiplatform.{version}.PredictionService" for version in ("v1", "v1beta1")
)
_METHODS: Final = ("ChatCompletions", "StreamRawPredict", "RawPredict")
_RAW: Final = ParsedBody(kind="vertex_raw", dialect=Dialect.GRPC)


class _Shape(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()


_SHAPE: Final = msgspec.json.Decoder(_Shape)


class VertexAIParser:
    """vertexai-parser: reads OpenAI bodies inside of Vertex AI's gRPC calls.

    Formula: the JSON in `http_body`: chat where it has messages, completions where it has a prompt;
    any other body of a raw prediction passes unread. Its model is rewritten, the answer's stays.
    Parameters: none.
    Example:
        - type: vertexai-parser
    """

    type: ClassVar[str] = "vertexai-parser"
    paths: ClassVar[tuple[str, ...]] = tuple(
        f"{service}/{method}" for service in _SERVICES for method in _METHODS
    )

    def parse(self, head: Head, body: bytes) -> ParsedBody:
        """The JSON inside of a call. Raises `BadRequest`, `TooLarge`."""
        inner = decode(RawPredictRequest.FromString, body).http_body.data
        chat_only = head.path.endswith("/ChatCompletions")
        shape = _Shape(messages=msgspec.Raw(b"[]")) if chat_only else _shape(inner)
        if bytes(shape.messages):
            return _as_vertex(read_chat(inner), "vertex_chat", inner)
        if bytes(shape.prompt):
            return _as_vertex(read_completions(inner), "vertex_completions", inner)
        return _RAW


def _shape(inner: bytes) -> _Shape:
    """What a raw prediction's body is made of: nothing we know where it is no JSON object."""
    return decode_json(_SHAPE, inner) if inner.lstrip()[:1] == b"{" else _Shape()


def _as_vertex(parsed: ParsedBody, kind: str, inner: bytes) -> ParsedBody:
    return msgspec.structs.replace(parsed, kind=kind, dialect=Dialect.GRPC, json=inner)
