"""What the rest of this room asks of an API server, whoever speaks to it."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec

from epp.errors import EppError
from epp.kube.objects import UNREADABLE, decode_status
from epp.kube.reflector import Failure

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"


class Unreachable(EppError):
    """No answer: no connection, a broken one, or one that is too late."""


@dataclass(slots=True, frozen=True)
class Answer:
    """What the API server said. `retry_after` in seconds."""

    status: int
    body: bytes = b""
    retry_after: float | None = None

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The body. Raises `Unreachable` when it is no JSON object: somebody else has answered."""
        try:
            return _OBJECT.decode(self.body)
        except UNREADABLE as error:
            raise Unreachable(f"an answer that is no JSON object: {error}") from error

    @property
    def failure(self) -> Failure:
        said = decode_status(self.body)
        return Failure(self.status, said.message or f"HTTP {self.status}", self.retry_after)


class Api(Protocol):
    """An API server. Every call raises `Unreachable` when no answer comes in `timeout` seconds."""

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        timeout: float = 10.0,
    ) -> Answer: ...

    def watch(
        self, path: str, query: Mapping[str, str], *, silence: float
    ) -> AbstractAsyncContextManager["Stream"]:
        """A long answer; over when `silence` seconds bring nothing."""
        ...

    async def renew_credentials(self) -> None:
        """Read tokens and certificates anew: the server does not take the old ones."""
        ...


class Stream(Protocol):
    """The answer to a watch: `answer` says how it began, with a body where it was refused."""

    @property
    def answer(self) -> Answer: ...

    async def read(self) -> list[bytes] | None:
        """Whole lines as they come; None when it is over. Raises `Unreachable`."""
        ...


@dataclass(slots=True, frozen=True)
class Kind:
    """One kind of object in one version of one API group; the core group's name is empty."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str, name: str = "", sub: str = "") -> str:
        """The address of the objects in a namespace, or of one of them or of a part of it."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [
            "namespaces",
            namespace,
            self.plural,
            *([name] if name else ()),
            *filter(None, [sub]),
        ]
        return "/".join((root, *(quote(part, safe="") for part in parts)))

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


PODS: Final = Kind("", "v1", "pods")
EVENTS: Final = Kind("", "v1", "events")
LEASES: Final = Kind("coordination.k8s.io", "v1", "leases")
POOLS: Final = Kind("inference.networking.k8s.io", "v1", "inferencepools")
ALPHA_POOLS: Final = Kind("inference.networking.x-k8s.io", "v1alpha2", "inferencepools")
OBJECTIVES: Final = (
    Kind("llm-d.ai", "v1alpha2", "inferenceobjectives"),
    Kind("inference.networking.x-k8s.io", "v1alpha2", "inferenceobjectives"),
)
REWRITES: Final = (
    Kind("llm-d.ai", "v1alpha2", "inferencemodelrewrites"),
    Kind("inference.networking.x-k8s.io", "v1alpha2", "inferencemodelrewrites"),
)
"""Newer group first: of two objects of one name it wins."""

_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
