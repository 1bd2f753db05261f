"""Who has got how much lately: amounts by name that fade with time, bounded in number."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

MOST: Final = 4096
"""Names that are remembered; beyond them who has been quiet for longest is forgotten."""


class Attained:
    """Decaying sums. `half_life` in seconds; time never runs backwards."""

    __slots__ = ("_amounts", "_at", "_half_life", "_most", "_total")

    def __init__(self, half_life: float, most: int = MOST) -> None:
        self._half_life = half_life
        self._most = most
        # Amounts stand as of time `_at`, which moves on seldom: one factor serves for all of them.
        self._amounts: OrderedDict[Hashable, float] = OrderedDict()
        self._at = 0.0
        self._total = 0.0

    def __len__(self) -> int:
        return len(self._amounts)

    def add(self, name: Hashable, amount: float, now: float) -> None:
        growth = self._growth(now)
        if growth > 2.0**20:
            self._settle(now, growth)
            growth = 1.0
        self._amounts[name] = self._amounts.pop(name, 0.0) + amount * growth
        self._total += amount * growth
        if len(self._amounts) > self._most:
            self._total -= self._amounts.popitem(last=False)[1]

    def of(self, name: Hashable, now: float) -> float:
        """What `name` has got, faded."""
        amount = self._amounts.get(name)
        return 0.0 if amount is None else amount / self._growth(now)

    def share(self, name: Hashable) -> float:
        """What part of all `name` has got, 0..1."""
        amount = self._amounts.get(name)
        if amount is None or self._total <= 0.0:
            return 0.0
        return min(amount / self._total, 1.0)

    def _growth(self, now: float) -> float:
        return float(2.0 ** min((now - self._at) / self._half_life, 900.0))

    def _settle(self, now: float, growth: float) -> None:
        """Bring all to `now`; what has faded to nothing is forgotten."""
        faded = ((name, amount / growth) for name, amount in self._amounts.items())
        self._amounts = OrderedDict((name, amount) for name, amount in faded if amount > 1e-6)
        self._total = sum(self._amounts.values())
        self._at = now
