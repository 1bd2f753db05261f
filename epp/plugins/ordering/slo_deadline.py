"""The order of promised first tokens."""

import math
from typing import ClassVar

from epp.domain.headers import SLO_TTFT_MS
from epp.domain.waiting import Waiting
from epp.plugins.ordering._plain import OneLane
from epp.plugins.slo import promised


class SloDeadlineOrderingPolicy(OneLane):
    """slo-deadline-ordering-policy: whose first token is due first goes first.

    Formula: rank = time of arrival + the header x-llm-d-slo-ttft-ms; without the header, last.
    Parameters: none.
    Reads: header x-llm-d-slo-ttft-ms (or x-slo-ttft-ms), milliseconds above 0.
    Differs from the Go picker: a header that is no such number counts as not sent.
    Example:
        - type: slo-deadline-ordering-policy
    """

    type: ClassVar[str] = "slo-deadline-ordering-policy"

    def key(self, waiting: Waiting) -> float:
        return waiting.request.arrived + slo_ttft(waiting)


def slo_ttft(waiting: Waiting) -> float:
    """Seconds to the first token that the client asks for; infinite if it does not."""
    seconds = promised(waiting.request.headers, SLO_TTFT_MS)
    return math.inf if seconds is None else seconds
