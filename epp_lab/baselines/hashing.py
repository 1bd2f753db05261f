"""Prefix hash with bounded loads (CHWBL), as KubeAI balances.

The key is the adapter and the first characters of the prompt; the ring has 256 points for each
endpoint; an endpoint is passed over while its open requests exceed 125 % of the mean. Kept as it
is: no absolute slack, so that with few requests open a busy home is left at once, and the first
endpoint met takes the request if all are over the bound.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import ClassVar

import numpy as np
from pydantic import Field
from xxhash import xxh64_intdigest

from epp.config.params import PluginParams
from epp.domain.endpoint import Endpoint
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.tokens.blocks import BYTES_PER_TOKEN, pack


class BoundedHashFilter:
    """lab-bounded-hash-filter: keeps the one endpoint that the ring gives."""

    type: ClassVar[str] = "lab-bounded-hash-filter"

    class Params(PluginParams):
        prefix_chars: int = Field(100, ge=1)
        load_factor: float = Field(1.25, ge=1.0)
        replication: int = Field(256, ge=1)

    def __init__(self, params: Params) -> None:
        self._params = params
        self._endpoints: tuple[Endpoint, ...] = ()
        self._points: list[int] = []
        self._rows: list[int] = []

    def filter(self, request: Request, pool: PoolView) -> Mask:
        if pool.endpoints is not self._endpoints:
            self._build(pool.endpoints)
        chosen = np.zeros(len(pool), dtype=np.bool_)
        chosen[self._walk(self._key(request), pool)] = True
        return chosen

    def _key(self, request: Request) -> int:
        prompt = request.prompts[0]
        tokens = self._params.prefix_chars // BYTES_PER_TOKEN
        start = pack((prompt.token_ids or ())[:tokens]) if prompt.token_ids else prompt.text[:100]
        return xxh64_intdigest(request.target_model.encode() + start)

    def _walk(self, key: int, pool: PoolView) -> int:
        loads = pool.inflight_requests.tolist()
        total = sum(loads)
        bound = (total + 1) / len(loads) * self._params.load_factor
        start = bisect_left(self._points, key)
        for step in range(len(self._points)):
            row = self._rows[(start + step) % len(self._points)]
            if total == 0 or loads[row] <= bound:
                return row
        return self._rows[start % len(self._points)]

    def _build(self, endpoints: tuple[Endpoint, ...]) -> None:
        points: dict[int, int] = {}
        for row, endpoint in enumerate(endpoints):
            name = f"{endpoint.namespace}/{endpoint.name}"
            for number in range(self._params.replication):
                points[xxh64_intdigest(f"{name}{number}".encode())] = row
        self._points = sorted(points)
        self._rows = [points[point] for point in self._points]
        self._endpoints = endpoints
