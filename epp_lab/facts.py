"""What the lab lets baselines know: what elsewhere is learned from the engines' KV events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from epp.domain.pool import Ints, PoolView
from epp.domain.request import Key

Caches: TypeAlias = Callable[[PoolView], Ints]
"""Tokens of this request's prompt that each endpoint's engine has cached at this moment."""

CACHES: Final[Key[Caches]] = Key("caches as they are")
