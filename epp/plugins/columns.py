"""Names of the columns and facts through which plugins meet, and how a match is read.

A producer writes its matches twice: under the plain name, which everybody reads by default, and
under its own (`named`), for a reader that is told whose matches to take.
"""

from typing import Final

import numpy as np

from epp.domain.pool import Floats, Ints, PoolView
from epp.domain.request import Request
from epp.tokens.counting import tokens_per_counted

PREFIX_TOKENS: Final = "prefix_tokens"
"""Prompt tokens each endpoint has cached, int, shape `(n,)`."""
PREFIX_TOTAL: Final = "prefix_total"
"""Prompt tokens that could be cached at all (those in full blocks), the same for every row."""
MM_CACHED: Final = "mm_cached"
"""Tokens of the request's images, video and audio each endpoint has encoded before, int."""
MM_TOTAL: Final = "mm_total"
"""Tokens of all of them, the same for every row."""
PREDICTED_TTFT: Final = "predicted_ttft"
"""Seconds from the pick to the first token, NaN where it is not known yet."""
PREDICTED_TPOT: Final = "predicted_tpot"
"""Seconds for each further token, likewise."""
TTFT_HEADROOM: Final = "ttft_headroom"
"""Seconds left of what the client asks for after the predicted first token, below 0 where it comes
late; not written where the client does not ask."""
TPOT_HEADROOM: Final = "tpot_headroom"
"""The same for each further token."""


def in_prompt_tokens(request: Request, cached: Ints, total: Ints) -> tuple[Ints, Ints]:
    """What was matched in blocks of bytes, in the unit of `request.prompt_tokens`."""
    worth = tokens_per_counted(request)
    if worth is None:
        return cached, total
    return (cached * worth).astype(np.int64), (total * worth).astype(np.int64)


def named(column: str, producer: str) -> str:
    """The column's name for the matches of one producer; the plain one for an empty name."""
    return f"{column}/{producer}" if producer else column


def cached_tokens(request: Request, pool: PoolView, producer: str = "") -> Ints | None:
    """Cached prompt tokens by endpoint, never more than the prompt has; None if nobody looked."""
    cached = pool.get(named(PREFIX_TOKENS, producer))
    return None if cached is None else np.minimum(cached, request.prompt_tokens)


def uncached_tokens(request: Request, pool: PoolView, producer: str = "") -> Ints:
    """Prompt tokens each endpoint would have to compute; all of them where nobody looked."""
    cached = cached_tokens(request, pool, producer)
    if cached is None:
        return np.full(len(pool), request.prompt_tokens, dtype=np.int64)
    return request.prompt_tokens - cached


def matched_share(pool: PoolView, producer: str = "") -> Floats | None:
    """Cached tokens over those that could be, 0..1; None if nobody looked.

    A prompt without a full block can match nowhere: 0 everywhere.
    """
    cached = pool.get(named(PREFIX_TOKENS, producer))
    total = pool.get(named(PREFIX_TOTAL, producer))
    if cached is None or total is None:
        return None
    return np.minimum(cached / np.maximum(total, 1), 1.0)
