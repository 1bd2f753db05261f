"""The order of deadlines in the queue."""

from typing import ClassVar

from epp.domain.waiting import Waiting
from epp.plugins.ordering._plain import OneLane


class EdfOrderingPolicy(OneLane):
    """edf-ordering-policy: whose budget ends first goes first.

    Formula: rank = time of arrival in the queue + budget; without a budget, last.
    Parameters: none.
    Reads: budget (defaultRequestTTL, or less by the header x-epp-request-ttl-ms).
    Differs from the Go picker: a request can bring a budget of its own, so that this is not the
    order of arrival under another name.
    Example:
        - type: edf-ordering-policy
    """

    type: ClassVar[str] = "edf-ordering-policy"

    def key(self, waiting: Waiting) -> float:
        return waiting.expires
