"""One ceiling for all."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from epp.config.params import PluginParams


class StaticUsageLimitPolicy:
    """static-usage-limit-policy: one ceiling for all bands.

    Formula: ceiling = threshold.
    Parameters: threshold (default 1.0).
    Reads: nothing.
    Differs from the Go picker: the ceiling is compared with how full each endpoint is.
    Example:
        - type: static-usage-limit-policy
          parameters: {threshold: 0.9}
    """

    type: ClassVar[str] = "static-usage-limit-policy"

    class Params(PluginParams):
        threshold: float = Field(1.0, gt=0.0)

    def __init__(self, params: Params) -> None:
        self._threshold = params.threshold

    def ceilings(self, priorities: Sequence[int], saturation: float) -> Sequence[float]:
        return [self._threshold] * len(priorities)
