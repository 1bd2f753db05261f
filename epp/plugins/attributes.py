"""Any column as a number: what the filter and the scorer of attributes share."""

import numpy as np

from epp.domain.pool import Floats, PoolView
from epp.plugins.columns import named


def attribute(pool: PoolView, name: str, producer: str) -> Floats:
    """The column `name` (of `producer` where it has written one), NaN where it is missing."""
    column = pool.get(named(name, producer))
    if column is None:
        column = pool.get(name)
    if column is None or column.dtype == np.object_:
        return np.full(len(pool), np.nan)
    return column.astype(np.float64)
