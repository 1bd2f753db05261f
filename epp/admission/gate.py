"""What stands between a request and its placing."""

from collections.abc import Awaitable
from typing import Protocol

from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.errors import Saturated
from epp.points import SaturationDetector


class Gate(Protocol):
    """Lets a request through, makes it wait, or refuses it."""

    def admit(self, request: Request, pool: PoolView) -> Awaitable[None] | None:
        """None when the request may go at once, else an awaitable that ends when it may.

        Asked once more about a request that it let go, it takes that one back: placing found no
        room. Raises `Refused`, at once or from the awaitable. `left` must follow an awaitable,
        whichever way it ended.
        """
        ...

    def room(self, request: Request, pool: PoolView) -> Mask | None:
        """Where the request just let through may go, bool, shape `(n,)`; None for everywhere."""
        ...

    def placed(self, request: Request, tokens: int) -> None:
        """The request has its endpoint, which has to compute `tokens` of its prompt."""
        ...

    def left(self, request: Request) -> None:
        """A request that had to wait waits no longer: it is placed, refused or withdrawn."""
        ...


class SheddingGate:
    """Without flow control: all go at once, but sheddable work while the pool is saturated."""

    def __init__(self, detector: SaturationDetector | None) -> None:
        """Without a detector nothing is ever shed."""
        self._detector = detector

    def admit(self, request: Request, pool: PoolView) -> None:
        """Raises `Saturated` for priority below 0 when the detector says 1 or more."""
        if request.priority >= 0 or self._detector is None:
            return
        if self._detector.saturation(pool) >= 1.0:
            raise Saturated("the pool is saturated and this request's priority is below 0")

    def room(self, request: Request, pool: PoolView) -> None:
        """Everywhere."""

    def placed(self, request: Request, tokens: int) -> None:
        """Changes nothing."""

    def left(self, request: Request) -> None:
        """Nobody waits here."""
