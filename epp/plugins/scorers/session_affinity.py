"""The scorer of sessions."""

from typing import ClassVar, TypeAlias

import numpy as np

from epp.domain.decision import Decision
from epp.domain.headers import HeaderChanges
from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.domain.response import ResponseHead
from epp.plugins.sessions import SessionAffinity, SessionParams
from epp.points import Tools


class SessionAffinityScorer:
    """session-affinity-scorer: prefers the endpoint that answered the session before.

    Formula: 1 for the endpoint of the client's token (or session id), 0 for the others; no opinion
    where there is no session or its endpoint has gone.
    Parameters: strategy (encoded_endpoint_header or session_id, default the first),
    encodedEndpointHeaderConfig.header (default x-session-token), sessionIdConfig (sources, a list
    of header or attribute with producer; evictionTtlSeconds, default 300; evictionSweepSeconds),
    profileName (whose pick is remembered, default the primary profile).
    Reads: the token header, or the session id. Writes: the token as a response header.
    Differs from the Go picker: the token is a keyed digest, not the pod's name in base64, so it can
    be neither forged nor read; it survives a restart of the picker if its secret is configured.
    Sessions are forgotten as others are noted, so evictionSweepSeconds changes nothing.
    Example:
        - type: session-affinity-scorer
          parameters: {encodedEndpointHeaderConfig: {header: x-my-session}}
    """

    type: ClassVar[str] = "session-affinity-scorer"
    Params: TypeAlias = SessionParams

    def __init__(self, params: SessionParams, tools: Tools) -> None:
        self._affinity = SessionAffinity(params, tools)

    def score(self, request: Request, pool: PoolView) -> Scores | None:
        mask = self._affinity.remembered(request, pool)
        return None if mask is None else mask.astype(np.float64)

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        self._affinity.note(request, decision)

    def response_started(
        self, request: Request, decision: Decision, head: ResponseHead
    ) -> HeaderChanges | None:
        return self._affinity.stamp(decision)
