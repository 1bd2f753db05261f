"""The producer of the endpoint a cache may be copied from."""

from collections.abc import Iterator
from typing import ClassVar, Final

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams, Reference, ToProducer, ToProfile
from epp.domain.decision import Decision
from epp.domain.endpoint import Endpoint
from epp.domain.headers import HeaderChanges
from epp.domain.pool import Ints, PoolView
from epp.domain.request import Request
from epp.plugins.columns import PREFIX_TOKENS, cached_tokens
from epp.points import Tools

SOURCE: Final = "x-kv-cache-source-host-port"
ONE_BLOCK: Final = 64
"""Matches this close in tokens count as equally long."""


class P2pSourceProducer:
    """p2p-source-producer: names an endpoint that has more of the prompt than the one picked.

    Formula: among endpoints within one block (64 tokens) of the longest match, one by lot with
    weight 1 / (1 + waiting); named if it has at least minCachedTokenDelta tokens more than the
    endpoint that prefills (the pick of prefillProfileName if that ran, else the destination).
    Parameters: prefixMatchInfoProducerName (whose matches to read; default: those of the last
    producer), minCachedTokenDelta (default 1), prefillProfileName (default prefill).
    Reads: prefix_tokens, waiting. Writes: request header x-kv-cache-source-host-port.
    Differs from the Go picker: the lot is drawn from the picker's random source, not from the
    client's request id, which a client could choose.
    Example:
        - type: p2p-source-producer
          parameters: {minCachedTokenDelta: 1024}
    """

    type: ClassVar[str] = "p2p-source-producer"

    class Params(PluginParams):
        prefix_match_info_producer_name: str = ""
        min_cached_token_delta: int = Field(1, ge=1)
        prefill_profile_name: str = Field("prefill", min_length=1)

        def refers(self) -> Iterator[Reference]:
            name = self.prefix_match_info_producer_name
            yield ToProducer(("prefixMatchInfoProducerName",), name, PREFIX_TOKENS)
            if self.prefill_profile_name != "prefill":
                yield ToProfile(("prefillProfileName",), self.prefill_profile_name)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._params = params
        self._random = tools.random

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> HeaderChanges | None:
        cached = cached_tokens(request, pool, self._params.prefix_match_info_producer_name)
        target = self._prefilling(decision)
        if cached is None or target not in pool.endpoints:
            return None
        row = self._source(cached, pool)
        if cached[row] - cached[pool.endpoints.index(target)] < self._params.min_cached_token_delta:
            return None
        return HeaderChanges(set={SOURCE: pool.endpoints[row].address})

    def _prefilling(self, decision: Decision) -> Endpoint:
        for result in decision.others:
            if result.profile == self._params.prefill_profile_name and result.picked:
                return result.picked[0]
        return decision.endpoint

    def _source(self, cached: Ints, pool: PoolView) -> int:
        longest = np.flatnonzero(cached > cached.max() - ONE_BLOCK)
        weights = 1.0 / (1.0 + pool.waiting[longest])
        return self._random.choices(longest.tolist(), weights.tolist())[0]
