"""What policies with one lane and one fixed key share."""

from abc import ABC, abstractmethod
from typing import Final

from epp.domain.waiting import Waiting

ONE_LANE: Final = ""


class OneLane(ABC):
    """Orders by `key` alone; whoever inherits says what that is."""

    def lane(self, waiting: Waiting) -> str:
        return ONE_LANE

    @abstractmethod
    def key(self, waiting: Waiting) -> float:
        """The place: smallest first."""

    def rank(self, waiting: Waiting, now: float) -> float:
        return self.key(waiting)

    def share(self, waiting: Waiting, now: float) -> float:
        return 1.0
