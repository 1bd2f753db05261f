"""gRPC responses on their way through: token counts are read out of whole messages."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from epp.domain.headers import NO_CHANGES, HeaderChanges
from epp.domain.response import Usage
from epp.request.gen.httpbody_pb2 import HttpBody
from epp.request.gen.vllm_engine_pb2 import EmbedResponse, GenerateResponse
from epp.request.grpc import FrameCutter
from epp.request.sse import LineCutter, payloads
from epp.request.usage import UsageCount

MOST_OUTPUTS: Final = 1024
"""Of one request (`n` of its sampling parameters) that are counted."""


class Count(Protocol):
    """What the messages of one response have reported."""

    @property
    def usage(self) -> Usage | None: ...

    def read(self, message: bytes) -> None:
        """One whole message. Raises `DecodeError` for what is not one."""
        ...


class GrpcBody:
    """A gRPC response of a kind whose messages tell their usage. Nothing in it is changed."""

    __slots__ = ("_count", "_cutter", "_unpassed")

    def __init__(self, count: Count) -> None:
        self._count = count
        self._cutter = FrameCutter()
        self._unpassed = b""

    @property
    def usage(self) -> Usage | None:
        return self._count.usage

    @property
    def changes(self) -> HeaderChanges:
        return NO_CHANGES

    def feed(self, data: bytes, end: bool) -> bytes:
        self._unpassed = data
        for message in self._cutter.feed(data):
            try:
                self._count.read(message)
            except DecodeError:
                continue
        return data

    def owed(self) -> bytes:
        return self._unpassed


class GenerateCount:
    """vLLM's Generate: chunks bring the tokens they add, the last message of an output its sum."""

    __slots__ = ("_added", "_cached", "_prompt", "_sums")

    def __init__(self) -> None:
        self._prompt = 0
        self._cached = 0
        self._added = 0
        self._sums: dict[int, int] = {}

    @property
    def usage(self) -> Usage | None:
        if not (self._prompt or self._added or self._sums):
            return None
        completion = sum(self._sums.values()) if self._sums else self._added
        return Usage(self._prompt, completion, self._cached)

    def read(self, message: bytes) -> None:
        said = GenerateResponse.FromString(message)
        part = said.complete if said.HasField("complete") else said.chunk
        self._prompt = part.prompt_tokens or self._prompt
        self._cached = part.cached_tokens or self._cached
        if said.HasField("chunk"):
            self._added += len(said.chunk.token_ids)
        elif said.HasField("complete") and len(self._sums) < MOST_OUTPUTS:
            self._sums[said.complete.index] = said.complete.completion_tokens


class EmbedCount:
    """vLLM's Embed: a prompt and no completion."""

    __slots__ = ("usage",)

    def __init__(self) -> None:
        self.usage: Usage | None = None

    def read(self, message: bytes) -> None:
        if tokens := EmbedResponse.FromString(message).prompt_tokens:
            self.usage = Usage(tokens, 0)


class HttpBodyCount:
    """JSON, or an event stream, in pieces inside of messages."""

    __slots__ = ("_count", "_lines")

    def __init__(self) -> None:
        self._count = UsageCount()
        self._lines = LineCutter()

    @property
    def usage(self) -> Usage | None:
        return self._count.usage

    def read(self, message: bytes) -> None:
        data = HttpBody.FromString(message).data
        if data.lstrip()[:1] == b"{":
            self._count.read(data)
            return
        for lines, whole in self._lines.feed(data):
            for start, end in payloads(lines, b'"usage"') if whole else ():
                self._count.read(lines[start:end])


COUNTS: Final[Mapping[str, Callable[[], Count]]] = {
    "vllm_grpc_generate": GenerateCount,
    "vllm_grpc_embed": EmbedCount,
    "vertex_chat": HttpBodyCount,
    "vertex_completions": HttpBodyCount,
    "vertex_raw": HttpBodyCount,
}
"""How the answer to each kind of gRPC request tells its usage."""


def grpc_body_for(kind: str) -> GrpcBody | None:
    """What to feed the gRPC response to a request of `kind` to; None where it tells nothing."""
    count = COUNTS.get(kind)
    return GrpcBody(count()) if count else None
