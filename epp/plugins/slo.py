"""What a client was promised: the headers of service level objectives, and how far off they are."""

import math
from typing import Final, NamedTuple

import numpy as np

from epp.domain.headers import Headers, first_of
from epp.domain.pool import Floats, Mask, PoolView
from epp.plugins.columns import (
    PREDICTED_TPOT,
    PREDICTED_TTFT,
    TPOT_HEADROOM,
    TTFT_HEADROOM,
    named,
)

TARGETS: Final = ((PREDICTED_TTFT, TTFT_HEADROOM), (PREDICTED_TPOT, TPOT_HEADROOM))


def promised(headers: Headers, names: tuple[str, ...]) -> float | None:
    """Seconds that a header in milliseconds asks for; None where it is no number above 0."""
    said = first_of(headers, names)
    if said is None:
        return None
    try:
        seconds = float(said) / 1000.0
    except ValueError:
        return None
    return seconds if 0.0 < seconds < math.inf else None


class Outlook(NamedTuple):
    """One target for every endpoint, in seconds: what is expected, and what is left of the SLO.

    `headroom` is None where the client did not ask for one.
    """

    expected: Floats
    headroom: Floats | None


def outlooks(pool: PoolView, producer: str = "") -> tuple[Outlook | None, Outlook | None]:
    """First token and further tokens; None where not every endpoint has a prediction.

    One endpoint without would otherwise never be asked, and so never have one.
    """
    first, further = (_outlook(pool, *columns, producer) for columns in TARGETS)
    return first, further


def _outlook(pool: PoolView, expected: str, headroom: str, producer: str) -> Outlook | None:
    column = pool.get(named(expected, producer))
    if column is None or np.isnan(column).any():
        return None
    return Outlook(column, pool.get(named(headroom, producer)))


def meets(outlook: Outlook | None, size: int) -> Mask:
    """Where the SLO is met; everywhere where nothing is asked or nothing is known."""
    if outlook is None or outlook.headroom is None:
        return np.ones(size, dtype=np.bool_)
    met: Mask = outlook.headroom >= 0.0
    return met


def idle(pool: PoolView) -> Mask:
    """Endpoints with no request, neither by their word nor by ours."""
    nothing: Mask = (pool.running <= 0) & (pool.waiting <= 0) & (pool.inflight_requests == 0)
    return nothing
