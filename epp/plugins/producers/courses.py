"""What open requests were expected to take, until their answers say what it was."""

from dataclasses import dataclass
from typing import Final

from epp.datastore.latency import LatencyModel
from epp.domain.clock import Clock
from epp.domain.pool import Floats

TTFT, TPOT = 0, 1
"""The targets, in the order of the model."""
NAMES: Final = ("ttft", "tpot")
LEAST_OUTPUT: Final = 4
"""Answers of fewer tokens say nothing of the time for each: they come in one piece or two."""


@dataclass(slots=True)
class Course:
    """One request on its way; times in seconds of the picker's clock."""

    slot: int
    features: Floats
    expected: tuple[float, float]
    """By target, NaN where nothing was expected."""
    picked_at: float
    streams: bool
    slo: tuple[float | None, float | None]
    """By target, as the client asked; that of the first token counts from the pick."""
    helped: bool
    """Whether another endpoint computes the prompt: then the first token says nothing of this."""
    first_at: float | None = None
    tokens: int = 0
    """Of the answer, as the engine reported them."""


class Courses:
    """Open requests by our id, and the model their answers teach. Kept over reloads.

    Every course that is `begun` is `ended`, on every way out.
    """

    def __init__(self, model: LatencyModel, clock: Clock) -> None:
        self.model = model
        self.missed = [0, 0]
        """Answers that were later than their client asked for, by target."""
        self._clock = clock
        self._open: dict[str, Course] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, request_id: str, course: Course) -> None:
        self._open[request_id] = course

    def drop(self, request_id: str) -> None:
        """Nothing is to be learned from this one: another endpoint answered, or with an error."""
        self._open.pop(request_id, None)

    def on_first_token(self, request_id: str) -> None:
        """The first piece of the answer's body has come; of a stream that is its first token."""
        course = self._open.get(request_id)
        if course is None or course.first_at is not None:
            return
        course.first_at = self._clock()
        if course.streams and not course.helped:
            self._teach(TTFT, course, course.first_at - course.picked_at)

    def counted(self, request_id: str, tokens: int) -> None:
        """The engine says how many tokens the answer has."""
        if course := self._open.get(request_id):
            course.tokens = tokens

    def end(self, request_id: str, *, whole: bool) -> None:
        """The request is over; `whole` if its answer came to its end."""
        course = self._open.pop(request_id, None)
        if course is None or not whole or course.tokens < LEAST_OUTPUT:
            return
        # An answer in one piece: what the first token is expected to have taken is not decoding.
        first_at = course.first_at
        if not course.streams:
            first_at = course.picked_at + course.expected[TTFT]
        if first_at is not None and first_at == first_at:
            self._teach(TPOT, course, (self._clock() - first_at) / (course.tokens - 1))

    def on_removed(self, slot: int) -> None:
        """The endpoint has gone: what is open there says nothing of the slot's next owner."""
        self.model.on_removed(slot)
        self._open = {key: course for key, course in self._open.items() if course.slot != slot}

    def _teach(self, target: int, course: Course, seen: float) -> None:
        asked = course.slo[target]
        if asked is not None and seen > asked:
            self.missed[target] += 1
        self.model.learn(target, course.slot, course.features, course.expected[target], seen)
