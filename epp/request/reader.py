"""Headers and bytes become a `Request`: the parser chosen by path, the limits, the control headers.

The order is that of cost: sizes, then path, then the one decode, then depth.
"""

from collections.abc import Sequence
from typing import Final

from epp.domain.headers import Headers
from epp.domain.path import Intake
from epp.domain.request import Head, ParsedBody, Request
from epp.errors import BadRequest, TooLarge
from epp.points import HeaderProcessor, Parser
from epp.request import control
from epp.request.limits import DEFAULT_LIMITS, Limits
from epp.request.route import Routes, path_of
from epp.request.structure import MOST_BRACKETS, deeper_than

PASSTHROUGH: Final = "passthrough"
"""The kind of what is not read: no body, no parser, no model."""

_UNREAD: Final = ParsedBody(kind=PASSTHROUGH)
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})

_WITHOUT_MODEL: Final = frozenset(
    {PASSTHROUGH, "sglang_generate", "vertex_raw", "vllm_grpc_embed", "vllm_grpc_generate"}
)
_MODEL_NEEDED: Final = frozenset(
    {
        "chat",
        "chat_render",
        "completions",
        "completions_render",
        "conversations",
        "count_tokens",
        "embeddings",
        "images",
        "messages",
        "responses",
    }
)


class RequestReader:
    """Reads whole requests. `parsers` and `identities` in the order of the configuration."""

    __slots__ = ("_identities", "_limits", "_routes")

    def __init__(
        self,
        parsers: Sequence[Parser],
        limits: Limits = DEFAULT_LIMITS,
        identities: Sequence[HeaderProcessor] = (),
    ) -> None:
        self._routes = Routes(parsers)
        self._limits = limits
        self._identities = identities

    def read(self, intake: Intake, request_id: str, now: float) -> Request:
        """The request in `intake`, arrived at `now` (monotonic seconds), under our own id.

        Raises `TooLarge` over a limit and `BadRequest` for what cannot be read.
        """
        self._check_sizes(intake)
        parsed = self._parse(intake)
        headers = intake.head.headers
        return Request(
            id=request_id,
            head=intake.head,
            dialect=parsed.dialect,
            kind=parsed.kind,
            model=parsed.model,
            target_model=self._target(parsed, intake.head),
            stream=parsed.stream,
            prompts=parsed.prompts,
            prompt_tokens=sum(prompt.tokens for prompt in parsed.prompts),
            max_output_tokens=parsed.max_output_tokens,
            cache_salt=parsed.cache_salt,
            objective=control.objective(headers, self._limits),
            fairness_id=control.fairness_id(headers, self._limits) or self._identity(headers),
            subset=intake.subset,
            body_size=len(intake.body),
            body=intake.body,
            arrived=now,
        )

    def _identity(self, headers: Headers) -> str:
        return next(filter(None, (known.identity(headers) for known in self._identities)), "")

    def _check_sizes(self, intake: Intake) -> None:
        limits = self._limits
        if intake.head.size > limits.header_bytes:
            raise TooLarge(f"headers: more than {limits.header_bytes} bytes; send fewer")
        if len(intake.body) > limits.body_bytes:
            raise TooLarge(f"body: more than {limits.body_bytes} bytes; send less")

    def _parse(self, intake: Intake) -> ParsedBody:
        head, body = intake.head, intake.body
        if head.method in _WITHOUT_BODY or not intake.body_seen:
            return _UNREAD
        parser = self._routes.parser(path_of(head.headers))
        if not body:
            # The parser without paths of its own takes whatever comes.
            if head.method == "POST" and parser is not None and parser.paths:
                raise BadRequest("body: empty; send a JSON object, or a gRPC message")
            return _UNREAD
        if parser is None:
            raise BadRequest("path: no parser reads it; use a path of the API that is served")
        parsed = parser.parse(head, body)
        self._check(parsed, body)
        return parsed

    def _check(self, parsed: ParsedBody, body: bytes) -> None:
        if len(parsed.model) > self._limits.model_chars:
            most = self._limits.model_chars
            raise BadRequest(f"model: longer than {most} characters; name one that is served")
        most = self._limits.prompts
        if len(parsed.prompts) > most:
            raise TooLarge(f"body: more than {most} prompts; send fewer at once")
        json = parsed.json or body
        read_as_json = parsed.kind != PASSTHROUGH and json.lstrip()[:1] == b"{"
        if read_as_json and deeper_than(json, self._limits.json_depth):
            raise TooLarge(
                f"body: JSON nested deeper than {self._limits.json_depth}, or of more than "
                f"{MOST_BRACKETS} brackets; flatten it"
            )

    def _target(self, parsed: ParsedBody, head: Head) -> str:
        if not carries_model(parsed.kind):
            return ""
        return control.model_rewrite(head.headers, self._limits) or parsed.model


def carries_model(kind: str) -> bool:
    """Whether bodies of `kind` have a place for a model; all others are never rewritten."""
    return kind not in _WITHOUT_MODEL


def check_model(request: Request) -> None:
    """Raise `BadRequest` where a model is needed and neither body nor rewrite has named one."""
    if not request.target_model and request.kind in _MODEL_NEEDED:
        raise BadRequest("model: not found in request body; name the model to use")
