"""One request from each flow in turn."""

from collections.abc import Sequence
from typing import ClassVar

from epp.domain.waiting import Contender
from epp.points import Tools


class RoundRobinFairnessPolicy:
    """round-robin-fairness-policy: one request from each flow in turn.

    Formula: the next flow by name after the one that went last in the band.
    Parameters: none.
    Reads: fairness id.
    Differs from the Go picker: in nothing. It counts requests; deficit-round-robin-fairness-policy
    counts tokens.
    Example:
        - type: round-robin-fairness-policy
    """

    type: ClassVar[str] = "round-robin-fairness-policy"

    def __init__(self, tools: Tools) -> None:
        self._last: dict[int, str] = tools.state.keep("cursor", dict)

    def choose(self, band: int, contenders: Sequence[Contender], now: float) -> int:
        last = self._last.get(band)

        def place(index: int) -> tuple[bool, str]:
            flow = contenders[index].flow
            return last is not None and flow <= last, flow

        chosen = min(range(len(contenders)), key=place)
        self._last[band] = contenders[chosen].flow
        return chosen
