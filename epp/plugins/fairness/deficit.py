"""As many prompt tokens from each flow."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar, Final

from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.waiting import Contender, Waiting
from epp.points import Tools

MOST: Final = 4096


class Accounts:
    """What flows may still send in this round, in tokens; a debt is carried into the next."""

    def __init__(self) -> None:
        self._left: OrderedDict[tuple[int, str], float] = OrderedDict()
        self._last: dict[int, str] = {}

    def last(self, band: int) -> str:
        """The flow whose turn it is."""
        return self._last.get(band, "")

    def turn(self, band: int, flow: str) -> None:
        self._last[band] = flow

    def left(self, band: int, flow: str) -> float:
        return self._left.get((band, flow), 0.0)

    def add(self, band: int, flow: str, tokens: float, most: float) -> None:
        """Nobody saves up more than `most`."""
        self._keep(band, flow, min(self.left(band, flow) + tokens, most))

    def charge(self, band: int, flow: str, tokens: float) -> None:
        """Who goes with nothing left takes it from nobody: that is one request's debt at most."""
        left = self.left(band, flow)
        self._keep(band, flow, left - tokens if left > 0.0 else min(left, -tokens))

    def _keep(self, band: int, flow: str, left: float) -> None:
        key = band, flow
        self._left.pop(key, None)
        self._left[key] = left
        if len(self._left) > MOST:
            self._left.popitem(last=False)


class DeficitRoundRobinFairnessPolicy:
    """deficit-round-robin-fairness-policy: as many uncached prompt tokens from each flow.

    Formula: flows by name in turn; a flow goes while it has tokens left, a new round gives each
    flow that waits `quantum` more, up to `quantum`. What a request cost, the prompt tokens its
    endpoint had to compute and 1, is taken off when it is placed; a debt, of one request at most,
    is worked off in rounds.
    Parameters: quantum (tokens, default 2048).
    Reads: fairness id, prompt tokens computed.
    Differs from the Go picker: it has no such policy.
    Example:
        - type: deficit-round-robin-fairness-policy
          parameters: {quantum: 4096}
    """

    type: ClassVar[str] = "deficit-round-robin-fairness-policy"

    class Params(PluginParams):
        quantum: int = Field(2048, ge=1, le=10**9)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._quantum = float(params.quantum)
        self._accounts: Accounts = tools.state.keep("accounts", Accounts)

    def choose(self, band: int, contenders: Sequence[Contender], now: float) -> int:
        self._open_rounds(band, contenders)
        last = self._accounts.last(band)

        def place(index: int) -> tuple[bool, str]:
            flow = contenders[index].flow
            return flow < last, flow

        able = (i for i, c in enumerate(contenders) if self._accounts.left(band, c.flow) > 0.0)
        chosen = min(able, key=place)
        self._accounts.turn(band, contenders[chosen].flow)
        return chosen

    def dispatched(self, waiting: Waiting, tokens: int, now: float) -> None:
        self._accounts.charge(waiting.priority, waiting.queue, tokens + 1)

    def _open_rounds(self, band: int, contenders: Sequence[Contender]) -> None:
        """As many rounds at once as it takes until somebody has tokens left."""
        best = max(self._accounts.left(band, contender.flow) for contender in contenders)
        if best > 0.0:
            return
        rounds = -best // self._quantum + 1.0
        for contender in contenders:
            self._accounts.add(band, contender.flow, rounds * self._quantum, self._quantum)
