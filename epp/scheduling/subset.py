"""The gateway's subset hint against the pool."""

import numpy as np

from epp.domain.pool import Mask, PoolView
from epp.domain.request import SubsetHint


def in_subset(hint: SubsetHint, pool: PoolView) -> Mask:
    """True where the hint names the endpoint by host and port, or by host alone."""
    members = frozenset(hint.members)
    return np.fromiter(
        ((e.host, e.port) in members or (e.host, None) in members for e in pool.endpoints),
        dtype=bool,
        count=len(pool),
    )
