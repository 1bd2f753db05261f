"""The filter of topology."""

from typing import ClassVar, Literal

import numpy as np

from epp.config.params import PluginParams
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.plugins.facts import PEER
from epp.plugins.topology import LEVELS, shared_level


class TopologyAffinityFilter:
    """topology-affinity-filter: keeps endpoints near the one an earlier profile picked.

    Formula: keep where the nearest level shared with the peer is minAffinity or nearer; all if
    there is no peer or none is that near.
    Parameters: minAffinity (host, rack, zone or region).
    Reads: labels kubernetes.io/hostname and topology.kubernetes.io/rack, zone, region; the peer.
    Example:
        - type: topology-affinity-filter
          parameters: {minAffinity: zone}
    """

    type: ClassVar[str] = "topology-affinity-filter"

    class Params(PluginParams):
        min_affinity: Literal["host", "rack", "zone", "region"]

    def __init__(self, params: Params) -> None:
        levels = list(LEVELS)
        self._near = frozenset(levels[: levels.index(params.min_affinity) + 1])

    def filter(self, request: Request, pool: PoolView) -> Mask:
        peer = request.facts.get(PEER)
        if peer is None:
            return np.ones(len(pool), dtype=np.bool_)
        near = np.array([shared_level(peer, each) in self._near for each in pool.endpoints])
        return near if near.any() else ~near
