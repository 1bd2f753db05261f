"""The filter of sessions."""

from typing import ClassVar, TypeAlias

import numpy as np

from epp.domain.decision import Decision
from epp.domain.headers import HeaderChanges
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.domain.response import ResponseHead
from epp.plugins.sessions import SessionAffinity, SessionParams
from epp.points import Tools


class SessionAffinityFilter:
    """session-affinity-filter: keeps only the endpoint that answered the session before.

    Formula: the endpoint of the client's token (or session id) if it is still there, else all.
    Parameters: strategy (encoded_endpoint_header or session_id, default the first),
    encodedEndpointHeaderConfig.header (default x-session-token), sessionIdConfig (sources, a list
    of header or attribute with producer; evictionTtlSeconds, default 300; evictionSweepSeconds),
    profileName (whose pick is remembered, default the primary profile).
    Reads: the token header, or the session id. Writes: the token as a response header.
    Differs from the Go picker: the token is a keyed digest, not the pod's name in base64, so it can
    be neither forged nor read; it survives a restart of the picker if its secret is configured.
    Sessions are forgotten as others are noted, so evictionSweepSeconds changes nothing.
    Example:
        - type: session-affinity-filter
    """

    type: ClassVar[str] = "session-affinity-filter"
    Params: TypeAlias = SessionParams

    def __init__(self, params: SessionParams, tools: Tools) -> None:
        self._affinity = SessionAffinity(params, tools)

    def filter(self, request: Request, pool: PoolView) -> Mask:
        mask = self._affinity.remembered(request, pool)
        return np.ones(len(pool), dtype=np.bool_) if mask is None else mask

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        self._affinity.note(request, decision)

    def response_started(
        self, request: Request, decision: Decision, head: ResponseHead
    ) -> HeaderChanges | None:
        return self._affinity.stamp(decision)
