"""What policies with one lane and one fixed key share."""

from typing import Final

from epp.domain.waiting import Waiting

ONE_LANE: Final = ""


class OneLane:
    """Orders by `key` alone; whoever inherits says what that is."""

    def lane(self, waiting: Waiting) -> str:
        return ONE_LANE

    def key(self, waiting: Waiting) -> float:
        raise NotImplementedError

    def rank(self, waiting: Waiting, now: float) -> float:
        return self.key(waiting)

    def share(self, waiting: Waiting, now: float) -> float:
        return 1.0
