"""No fairness between flows."""

from collections.abc import Sequence
from typing import ClassVar

from epp.domain.waiting import Contender


class GlobalStrictFairnessPolicy:
    """global-strict-fairness-policy: the best head over all flows, as the ordering ranks them.

    Formula: the smallest rank; of equal ones who came first.
    Parameters: none.
    Reads: ranks of the ordering policy.
    Differs from the Go picker: heads are compared when somebody may go, so ranks may change.
    Example:
        - type: global-strict-fairness-policy
    """

    type: ClassVar[str] = "global-strict-fairness-policy"

    def choose(self, band: int, contenders: Sequence[Contender], now: float) -> int:
        def place(index: int) -> tuple[float, int]:
            return contenders[index].rank, contenders[index].head.number

        return min(range(len(contenders)), key=place)
