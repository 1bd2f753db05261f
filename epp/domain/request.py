"""A request as the picker sees it: what was asked, of which model, for whom.

Bytes become one of these in `epp.request`; plugins read it and never change it. What a producer
finds out about a request on its way is kept under typed keys in `Request.facts`.
"""

import enum
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from epp.domain.headers import Headers
from epp.domain.media import Medium

T = TypeVar("T")


class Dialect(enum.Enum):
    """Whose error object and response shape a client of this path expects."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GRPC = "grpc"


class Head(msgspec.Struct, frozen=True):
    """The header block of a request. `headers` has lower-case names and includes pseudo-headers."""

    headers: Headers
    size: int = 0
    """Bytes of all names and values together."""

    @property
    def method(self) -> str:
        return self.headers.get(":method", "")

    @property
    def path(self) -> str:
        """The path without its query."""
        return self.headers.get(":path", "").partition("?")[0]


class Item(msgspec.Struct, frozen=True):
    """An image or such: its hash at the engine, and the tokens it stands for."""

    hash: str
    start: int
    length: int


class Prompt(msgspec.Struct, frozen=True):
    """One prompt: token ids where the client gave them, else bytes that stand for its text.

    Equal prefixes of `text` (or of `token_ids`) mean equal prefixes of the model's input, which is
    all that prefix matching needs: for chat it is the JSON of tools and messages as it came, with
    stand-ins for the data of images and such.
    """

    text: bytes = b""
    token_ids: Sequence[int] | None = None
    items: tuple[Item, ...] = ()
    """What stands among the token ids, in order; the ids alone do not tell one from another."""
    media: tuple[Medium, ...] = ()
    """Images and such, in order, that have their stand-ins in `text`."""

    @property
    def tokens(self) -> int:
        """Length in tokens: exact for token ids, else bytes / 4 rounded up."""
        return len(self.token_ids) if self.token_ids is not None else (len(self.text) + 3) // 4


class Key(Generic[T]):
    """Names a fact about a request and fixes its type. Compared by identity."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Key({self.name!r})"


class Facts:
    """What producers found out about one request: typed keys to values; dies with the request."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}

    def get(self, key: Key[T]) -> T | None:
        """The fact under `key`, or None if nobody wrote it."""
        value: T | None = self._values.get(key)
        return value

    def put(self, key: Key[T], value: T) -> None:
        """Write a fact; a second writer of the same key replaces the first."""
        self._values[key] = value


class SubsetHint(msgspec.Struct, frozen=True, cache_hash=True):
    """The gateway's list of endpoints to choose from: `(host, port or None for any port)` pairs.

    An empty list is a hint that nothing may be chosen; no hint at all is `None` on the request.
    """

    members: tuple[tuple[str, int | None], ...]


class ParsedBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a parser found in a body; the fields mean what they mean on `Request`."""

    kind: str
    dialect: Dialect = Dialect.OPENAI
    model: str = ""
    stream: bool = False
    prompts: tuple[Prompt, ...] = ()
    max_output_tokens: int | None = None
    cache_salt: str = ""
    json: bytes = b""
    """What was read as JSON, where that is a part of the body; empty where it is the whole."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, parsed. Sizes in bytes, times in seconds of the picker's monotonic clock."""

    id: str
    """Ours and unique: what a client sends as x-request-id never keys any state."""
    head: Head
    dialect: Dialect = Dialect.OPENAI
    kind: str = "passthrough"
    """Which parser read it and as what: `chat`, `completions`, `embeddings`, `messages`, ..."""
    model: str = ""
    """As the client named it; empty where the body has no model."""
    target_model: str = ""
    """What the model server is asked for, after rewriting; equals `model` without a rewrite."""
    stream: bool = False
    prompts: tuple[Prompt, ...] = ()
    prompt_tokens: int = 0
    """All prompts together, exact or estimated (see `Prompt.tokens`)."""
    max_output_tokens: int | None = None
    cache_salt: str = ""
    objective: str = ""
    fairness_id: str = ""
    priority: int = 0
    """Higher goes first; below 0 may be shed under load."""
    subset: SubsetHint | None = None
    body_size: int = 0
    body: bytes = b""
    """As it came, for those who must show it to an engine; never to be logged."""
    arrived: float = 0.0
    facts: Facts = msgspec.field(default_factory=Facts)

    @property
    def headers(self) -> Headers:
        return self.head.headers
