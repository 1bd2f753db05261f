"""The scorer of topology."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request
from epp.plugins.facts import PEER
from epp.plugins.topology import LEVELS, shared_level


class TopologyAffinityScorer:
    """topology-affinity-scorer: prefers endpoints near the one an earlier profile picked.

    Formula: the number given for the nearest level shared with the peer, 0 if none is shared; no
    opinion without a peer.
    Parameters: host (default 1), rack (default 0.2), zone (default 0.05), region (default 0.02).
    Reads: labels kubernetes.io/hostname and topology.kubernetes.io/rack, zone, region; the peer.
    Example:
        - type: topology-affinity-scorer
          parameters: {zone: 0.5}
    """

    type: ClassVar[str] = "topology-affinity-scorer"

    class Params(PluginParams):
        host: float = Field(1.0, ge=0.0, le=1.0)
        rack: float = Field(0.2, ge=0.0, le=1.0)
        zone: float = Field(0.05, ge=0.0, le=1.0)
        region: float = Field(0.02, ge=0.0, le=1.0)

    def __init__(self, params: Params) -> None:
        self._scores: dict[str | None, float] = {level: getattr(params, level) for level in LEVELS}

    def score(self, request: Request, pool: PoolView) -> Scores | None:
        peer = request.facts.get(PEER)
        if peer is None:
            return None
        levels = (shared_level(peer, each) for each in pool.endpoints)
        return np.array([self._scores.get(level, 0.0) for level in levels])
