"""Gauges that are missing or too old to be believed, and what is shown in their place.

Unknown ranks behind fresh and is never idle: such an endpoint shows one request more, waiting and
running, than the busiest fresh one, and KV memory half way between the fullest fresh one and full.
If nothing at all is fresh, only our own requests count, so that all are admitted and spread.
"""

from collections.abc import Mapping

import numpy as np

from epp.domain.pool import Column, Floats, Mask


def doubted(columns: Mapping[str, Column], fresh: Mask) -> dict[str, Column]:
    """`waiting`, `running` and `kv_usage` with the rows that are not `fresh` replaced."""
    own_waiting, own_running = own_load(columns)
    waiting, running, kv_usage = columns["waiting"], columns["running"], columns["kv_usage"]
    if not fresh.any():
        return {
            "waiting": own_waiting,
            "running": own_running,
            "kv_usage": np.zeros(len(fresh)),
        }
    least_waiting = waiting[fresh].max() + 1.0
    least_running = running[fresh].max() + 1.0
    fullness = (1.0 + kv_usage[fresh].max()) / 2.0
    return {
        "waiting": np.where(fresh, waiting, np.maximum(own_waiting, least_waiting)),
        "running": np.where(fresh, running, np.maximum(own_running, least_running)),
        "kv_usage": np.where(fresh, kv_usage, fullness),
    }


def own_load(columns: Mapping[str, Column]) -> tuple[Floats, Floats]:
    """Our own requests in flight as `(waiting, running)`: the batch as far as it has room."""
    own = columns["inflight_requests"].astype(np.float64)
    # fmin ignores the NaN of a batch limit that is not known.
    running = np.fmin(own, columns["max_running"])
    return own - running, running
