"""Shedding at the picker's own ceiling: a late answer is worth less than an early 503."""

from collections.abc import Callable

from epp.errors import Overloaded


class LagShedder:
    """Turns new requests away while the event loop runs late.

    The gateway gives up on its picker after some seconds; a loop that lags by `limit` seconds has a
    queue of work in front of every new request that is about as long. 0 never sheds.
    """

    def __init__(self, lag: Callable[[], float], limit: float) -> None:
        self._lag = lag
        self._limit = limit

    def check(self) -> None:
        """Raises `Overloaded` while the lag stays above the limit."""
        if self._limit and self._lag() > self._limit:
            raise Overloaded("the picker is at its ceiling; try again")
