"""Endpoints for short and for long contexts, by label; a scorer and a filter."""

import re
from typing import ClassVar, Final, NamedTuple

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.endpoint import Endpoint
from epp.domain.pool import Mask, PoolView, Scores
from epp.domain.request import Request

RANGE: Final = re.compile(r"\s*(\d{1,15})\s*-\s*(\d{1,15})\s*")


class Range(NamedTuple):
    """Prompt lengths in tokens, both ends included."""

    low: int
    high: int

    def rate(self, tokens: int) -> float:
        """A narrow range that fits with room above is best; a near miss beats a far one."""
        if self.low <= tokens <= self.high:
            width = self.high - self.low
            room = (self.high - tokens) / width if width else 0.0
            return 0.3 + 0.7 * (0.7 / (1.0 + width / 10_000) + 0.3 * room)
        distance = max(self.low - tokens, tokens - self.high)
        return 0.3 / (1.0 + distance / 1000)


class ContextLengthAware:
    """context-length-aware: prefers endpoints whose label names a range that fits the prompt.

    Formula: in range 0.3 + 0.7 * (0.7 / (1 + width / 10000) + 0.3 * headroom / width); outside
    0.3 / (1 + distance / 1000); without the label 0.5. As a filter, if enableFiltering: keep what
    fits or has no label, and all if nothing does.
    Parameters: enableFiltering (default false), label (default llm-d.ai/context-length-range,
    whose value is "min-max" in tokens).
    Reads: labels, prompt_tokens.
    Differs from the Go picker: a label that cannot be read counts as none.
    Example:
        - type: context-length-aware
          parameters: {enableFiltering: true}
    """

    type: ClassVar[str] = "context-length-aware"

    class Params(PluginParams):
        enable_filtering: bool = False
        label: str = Field("llm-d.ai/context-length-range", min_length=1)

    def __init__(self, params: Params) -> None:
        self._filters = params.enable_filtering
        self._label = params.label
        self._endpoints: tuple[Endpoint, ...] = ()
        self._ranges: tuple[Range | None, ...] = ()

    def score(self, request: Request, pool: PoolView) -> Scores:
        tokens = request.prompt_tokens
        ranges = self._ranges_of(pool)
        return np.array([0.5 if each is None else each.rate(tokens) for each in ranges])

    def filter(self, request: Request, pool: PoolView) -> Mask:
        if not self._filters:
            return np.ones(len(pool), dtype=np.bool_)
        tokens = request.prompt_tokens
        ranges = self._ranges_of(pool)
        fits = np.array([each is None or each.low <= tokens <= each.high for each in ranges])
        return fits if fits.any() else ~fits

    def _ranges_of(self, pool: PoolView) -> tuple[Range | None, ...]:
        """Read once for each set of endpoints."""
        if pool.endpoints is not self._endpoints:
            self._ranges = tuple(_range(e.labels.get(self._label, "")) for e in pool.endpoints)
            self._endpoints = pool.endpoints
        return self._ranges


def _range(text: str) -> Range | None:
    found = RANGE.fullmatch(text)
    if found is None or int(found[1]) > int(found[2]):
        return None
    return Range(int(found[1]), int(found[2]))
