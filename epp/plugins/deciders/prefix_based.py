"""The decider by uncached tokens."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import Column, PoolView
from epp.domain.request import Request
from epp.plugins.columns import PREFIX_TOKENS, uncached_tokens
from epp.plugins.facts import VERDICTS, give_verdict
from epp.points import Tools


class PrefixBasedPdDecider:
    """prefix-based-pd-decider: prefills elsewhere what the decode endpoint has too little of.

    Formula: yes where prompt tokens >= promptTokens and uncached tokens >= nonCachedTokens; never
    if nonCachedTokens is 0.
    Parameters: nonCachedTokens (default 0), promptTokens (default 0).
    Reads: prefix_tokens, prompt_tokens. Writes: its verdict, which disagg-profile-handler reads.
    Differs from the Go picker: reads the matches of whichever producer there is, not of one by
    name.
    Example:
        - type: prefix-based-pd-decider
          parameters: {nonCachedTokens: 512}
    """

    type: ClassVar[str] = "prefix-based-pd-decider"
    bare: ClassVar[str] = "nonCachedTokens is 0, which never disaggregates; list it and set that"
    consumes: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS,)
    produces_named: ClassVar[tuple[str, ...]] = (VERDICTS.name,)

    class Params(PluginParams):
        non_cached_tokens: int = Field(0, ge=0)
        prompt_tokens: int = Field(0, ge=0)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._params = params
        self._name = tools.name

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        least = self._params.non_cached_tokens
        long_enough = least > 0 and request.prompt_tokens >= self._params.prompt_tokens
        yes = (uncached_tokens(request, pool) >= least) & np.bool_(long_enough)
        give_verdict(request, self._name, pool.endpoints, yes)
        return {}
