"""The order of arrival."""

from typing import ClassVar

from epp.domain.waiting import Waiting
from epp.plugins.ordering._plain import OneLane


class FcfsOrderingPolicy(OneLane):
    """fcfs-ordering-policy: who came first goes first.

    Formula: rank = time of arrival.
    Parameters: none.
    Reads: time of arrival.
    Differs from the Go picker: in nothing.
    Example:
        - type: fcfs-ordering-policy
    """

    type: ClassVar[str] = "fcfs-ordering-policy"

    def key(self, waiting: Waiting) -> float:
        return waiting.since
