"""What flow control is told: limits in requests and bytes, times in seconds, policies."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from epp.points import FairnessPolicy, OrderingPolicy, SaturationDetector, UsageLimitPolicy

BAND_BYTES: Final = 10**9
BAND_REQUESTS: Final = 5000
TTL: Final = 60.0


@dataclass(slots=True, frozen=True)
class BandSettings:
    """Limits and policies of the requests of one priority."""

    ordering: OrderingPolicy
    fairness: FairnessPolicy
    max_requests: int = BAND_REQUESTS
    max_bytes: int = BAND_BYTES


@dataclass(slots=True, frozen=True)
class FlowSettings:
    """All of flow control. `positive` and `negative` are for priorities without a band."""

    positive: BandSettings
    negative: BandSettings
    usage: UsageLimitPolicy
    detector: SaturationDetector
    bands: Mapping[int, BandSettings] = field(default_factory=dict)
    max_requests: float = math.inf
    max_bytes: float = math.inf
    ttl: float = TTL
    """How long a request may wait; infinite for no limit."""
    eviction: bool = False
    """Whether sheddable requests are taken back for work of higher priority."""
    ttl_without_endpoints: float = TTL
    """The same while the pool is empty; the clock starts anew when that changes."""

    def band(self, priority: int) -> BandSettings:
        """What holds for a priority: its own band, never that of another one."""
        template = self.positive if priority >= 0 else self.negative
        return self.bands.get(priority, template)
