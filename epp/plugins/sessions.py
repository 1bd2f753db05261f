"""Sessions: which endpoint answered a client last time, by a token it holds or an id it sends.

The scorer and the filter of session affinity differ only in what they make of the answer.
"""

import hmac
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final, Literal, NamedTuple

import numpy as np
from pydantic import Field, field_validator, model_validator

from epp.config.params import PluginParams, Reference, ToProducer, ToProfile
from epp.domain.clock import Clock
from epp.domain.decision import Decision
from epp.domain.endpoint import Endpoint
from epp.domain.headers import HeaderChanges
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.plugins.facts import SESSION_ID
from epp.points import Tools

MAX_SESSIONS: Final = 100_000
MAX_SESSION_ID_LENGTH: Final = 256
ATTRIBUTE: Final = "SessionID"
"""What configurations call the fact that a producer of session ids leaves."""
MAX_TOKENS_KNOWN: Final = 8192


class TokenHeader(PluginParams):
    """The header that carries a token, in both directions."""

    header: str = Field(default="x-session-token", min_length=1)

    @field_validator("header")
    @classmethod
    def _lower(cls, name: str) -> str:
        return name.lower()


class SessionSource(PluginParams):
    """Where a session id is found: a request header, or the attribute a producer writes."""

    header: str = ""
    attribute: str = ""
    producer: str = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> "SessionSource":
        if bool(self.header) == bool(self.attribute):
            raise ValueError("give either `header` or `attribute`")
        if self.attribute and self.attribute != ATTRIBUTE:
            raise ValueError(f"the attribute with session ids is called {ATTRIBUTE}: write that")
        return self


class SessionIds(PluginParams):
    """How sessions are told apart, and for how long each is remembered after its last request."""

    sources: list[SessionSource] = Field(default_factory=list)
    eviction_ttl_seconds: int = Field(default=300, ge=1)
    eviction_sweep_seconds: int = Field(default=10, ge=1)


class SessionParams(PluginParams):
    """Parameters of session affinity."""

    strategy: Literal["encoded_endpoint_header", "session_id"] = "encoded_endpoint_header"
    encoded_endpoint_header_config: TokenHeader = Field(default_factory=TokenHeader)
    session_id_config: SessionIds = Field(default_factory=SessionIds)
    profile_name: str = ""

    @model_validator(mode="after")
    def _ids_come_from_somewhere(self) -> "SessionParams":
        if self.strategy == "session_id" and not self.session_id_config.sources:
            raise ValueError("strategy session_id needs `sessionIdConfig.sources`")
        return self

    def refers(self) -> Iterator[Reference]:
        for i, source in enumerate(self.session_id_config.sources):
            if source.attribute:
                field = "producer" if source.producer else "attribute"
                path = ("sessionIdConfig", "sources", i, field)
                yield ToProducer(path, source.producer, SESSION_ID.name)
        if self.profile_name:
            yield ToProfile(("profileName",), self.profile_name)


class EndpointTokens:
    """Opaque tokens for endpoints: a keyed digest of the endpoint's identity, and nothing else.

    Who lacks the key can neither make one nor read an endpoint's name from it. Another uid under
    the same name is another endpoint and has another token.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._tokens: dict[str, str] = {}
        self._endpoints: dict[str, Endpoint] = {}

    def of(self, endpoint: Endpoint) -> str:
        """The endpoint's token: 24 characters fit for a header or a cookie."""
        key = endpoint.key
        if (token := self._tokens.get(key)) is None:
            token = self._learn(endpoint, key)
        return token

    def row(self, token: str, endpoints: Sequence[Endpoint]) -> int | None:
        """Where the endpoint of `token` stands; None for a foreign token or an absent endpoint."""
        if token not in self._endpoints:
            for endpoint in endpoints:
                self.of(endpoint)
        known = self._endpoints.get(token)
        return None if known is None else row_of(known.key, endpoints)

    def _learn(self, endpoint: Endpoint, key: str) -> str:
        if len(self._tokens) >= MAX_TOKENS_KNOWN:
            self._tokens.clear()
            self._endpoints.clear()
        digest = hmac.digest(self._secret, b"session token\0" + key.encode(), sha256)
        token = urlsafe_b64encode(digest[:18]).decode()
        self._tokens[key] = token
        self._endpoints[token] = endpoint
        return token


class Remembered(NamedTuple):
    """An endpoint's key, and until when (monotonic seconds) its session is remembered."""

    endpoint_key: str
    until: float


class SessionTable:
    """Session ids to endpoints, each forgotten `ttl` seconds after its last use; bounded."""

    def __init__(self, most: int = MAX_SESSIONS) -> None:
        self._most = most
        self._sessions: OrderedDict[str, Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, session: str, now: float) -> str | None:
        """The key of the session's endpoint, None if unknown or forgotten."""
        known = self._sessions.get(session)
        return known.endpoint_key if known and known.until > now else None

    def note(self, session: str, endpoint_key: str, now: float, ttl: float) -> None:
        """The session was sent to this endpoint now."""
        self._sessions[session] = Remembered(endpoint_key, now + ttl)
        self._sessions.move_to_end(session)
        while len(self._sessions) > self._most or self._oldest().until <= now:
            self._sessions.popitem(last=False)

    def _oldest(self) -> Remembered:
        return next(iter(self._sessions.values()))


class SessionAffinity:
    """What the scorer and the filter share: look up, remember at the pick, stamp the response."""

    def __init__(self, params: SessionParams, tools: Tools) -> None:
        self._by_token = params.strategy == "encoded_endpoint_header"
        self._header = params.encoded_endpoint_header_config.header
        self._sources = params.session_id_config.sources
        self._ttl = float(params.session_id_config.eviction_ttl_seconds)
        self._profile = params.profile_name
        self._tokens = EndpointTokens(tools.secret)
        self._table = tools.state.keep("sessions", SessionTable)
        self._clock: Clock = tools.clock

    def remembered(self, request: Request, pool: PoolView) -> Mask | None:
        """True for the one endpoint of the request's session; None if there is none here."""
        row = self._row(request, pool)
        if row is None:
            return None
        mask = np.zeros(len(pool), dtype=np.bool_)
        mask[row] = True
        return mask

    def note(self, request: Request, decision: Decision) -> None:
        """Remember the pick, where sessions have ids."""
        session = None if self._by_token else self._session(request)
        endpoint = self._picked(decision)
        if session and endpoint:
            self._table.note(session, endpoint.key, self._clock(), self._ttl)

    def stamp(self, decision: Decision) -> HeaderChanges | None:
        """The response header that hands the client its token, where sessions are tokens."""
        endpoint = self._picked(decision) if self._by_token else None
        return HeaderChanges(set={self._header: self._tokens.of(endpoint)}) if endpoint else None

    def _row(self, request: Request, pool: PoolView) -> int | None:
        if self._by_token:
            token = request.headers.get(self._header)
            return self._tokens.row(token, pool.endpoints) if token else None
        session = self._session(request)
        key = self._table.find(session, self._clock()) if session else None
        return row_of(key, pool.endpoints) if key else None

    def _session(self, request: Request) -> str | None:
        for source in self._sources:
            if source.header:
                found = request.headers.get(source.header.lower())
            else:
                found = request.facts.get(SESSION_ID)
            if found:
                return found[:MAX_SESSION_ID_LENGTH]
        return None

    def _picked(self, decision: Decision) -> Endpoint | None:
        if not self._profile or decision.primary.profile == self._profile:
            return decision.endpoint
        for result in decision.others:
            if result.profile == self._profile and result.picked:
                return result.picked[0]
        return None


def row_of(key: str, endpoints: Sequence[Endpoint]) -> int | None:
    """The row of the endpoint with this key."""
    for row, endpoint in enumerate(endpoints):
        # Comparing the name first spares building 1,000 keys.
        if endpoint.name in key and endpoint.key == key:
            return row
    return None
