"""What stands between a request and its placing."""

from collections.abc import Awaitable
from typing import Protocol

from epp.domain.pool import PoolView
from epp.domain.request import Request
from epp.errors import Saturated
from epp.points import SaturationDetector


class Gate(Protocol):
    """Lets a request through, makes it wait, or refuses it."""

    def admit(self, request: Request, pool: PoolView) -> Awaitable[None] | None:
        """None when the request may go at once, else an awaitable that ends when it may.

        Raises `Refused`, at once or from the awaitable. Cancelling the awaitable withdraws the
        request from any queue.
        """
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
