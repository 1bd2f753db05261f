"""Where a request's LoRA adapter can run: what waiting for it costs, in tokens.

Engines run a few adapters at a time. Where the adapter runs, nothing is added. Where there is room
for one more it has to be loaded first, for about as long as prompts of `LOAD_SECONDS` would take.
Where others hold every place the request waits until all of one adapter's answers are done: such
endpoints stand behind all that could begin.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from epp.datastore.sample import LoraState

LOAD_SECONDS: Final = 0.5
"""From disk adapters load in 0.2 to 2 s, from host memory in a fiftieth of that."""
MOST_NAMES: Final = 10_000


class AdapterNames:
    """Which model names are adapters: those that an engine has ever reported; bounded.

    The base model takes no place, and nothing else tells it from an adapter.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()

    def learn(self, states: Iterable[LoraState]) -> None:
        """Names that engines report now."""
        for state in states:
            if len(self._names) < MOST_NAMES:
                self._names.update(state.running, state.waiting)

    def __contains__(self, name: str) -> bool:
        return name in self._names


def with_adapter(
    costs: Sequence[float], adapter: str, states: Sequence[LoraState], rates: Sequence[float]
) -> list[float]:
    """`costs` with what waiting for `adapter` adds; `rates` are prompt tokens in a second."""
    runs = [adapter in state.running for state in states]
    room = [len(state.running | state.waiting) < state.max_adapters for state in states]
    rows = zip(costs, runs, rates, strict=True)
    loaded = [cost if here else cost + LOAD_SECONDS * rate for cost, here, rate in rows]
    able = [here or fits for here, fits in zip(runs, room, strict=True)]
    if not any(able):
        return loaded
    dearest = max(cost for cost, can in zip(loaded, able, strict=True) if can)
    return [c if can else c + dearest for c, can in zip(loaded, able, strict=True)]
