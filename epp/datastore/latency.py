"""How long endpoints will take: learned from how long they took.

Endpoints of one class (the same engine, model, accelerator) share one line of coefficients for each
target; every endpoint has a factor of its own on top, for a machine that is faster or slower than
its like. What a sample says goes to both:

    expected = factor * (coefficients . features)
    log factor  moves towards log(seen / (coefficients . features)), by a twentieth at a time
    line        learns seen / factor, as far as it is no further off than three usual errors

An endpoint that is nothing like its class (`ODD` times faster or slower than the middle of it)
teaches its own factor alone, so that one which is dead and answers at once, or hangs, spoils
nothing for the others. When the whole class moves, so does the middle of the factors, and the line
takes it over. A factor without samples goes back to 1: an endpoint that was slow is tried again.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from epp.datastore.regression import BATCH, ForgettingFit
from epp.domain.clock import Clock
from epp.domain.pool import Floats, Ints
from epp.observe.latency_metrics import ERROR_BOUNDS
from epp.observe.series import Histogram

KEEP: Final = 0.998
"""What a sample still weighs after the next one: half after 350 of the class."""
STEP: Final = 0.05
PRIOR: Final = 4
"""A factor of 1 is believed as if so many samples had said it."""
LEAP: Final = 1.0
"""One sample never counts as more than e times faster or slower than what is believed."""
ODD: Final = math.log(3.0)
FARTHEST: Final = math.log(32.0)
"""Factors stay within 1/32..32."""
SHORTEST: Final = 0.1
"""Errors count by their share of the time seen, or of so much of the usual time if that is more."""
USUAL: Final = 0.05
"""The least usual error that is assumed, as a share."""
MOST_OFF: Final = 3.0
IDLE: Final = 10.0
"""Seconds without a sample after which a factor begins to go back to 1."""
BACK: Final = 60.0
"""Seconds in which it goes half of the way."""
LONGEST: Final = 3600.0
"""Longer times, in seconds, are no samples."""
MOST_CLASSES: Final = 32
OTHERS: Final = "other"


@dataclass(slots=True)
class Errors:
    """How far off predictions were: |predicted - seen| / seen, of the answers that had one."""

    spread: Histogram = field(default_factory=lambda: Histogram(ERROR_BOUNDS))
    recent: float = math.nan
    """The mean of the last fifty or so; NaN before the first."""

    def note(self, predicted: float, seen: float) -> None:
        error = abs(predicted - seen) / seen
        self.spread.observe(error)
        # One that is a thousand times off would hide all others for a long time.
        capped = min(error, 10.0)
        first = self.recent != self.recent
        self.recent = capped if first else self.recent + (capped - self.recent) / 50


class Line:
    """One target (time to the first token, time per output token) of one class."""

    __slots__ = ("_off", "_reads", "_usual", "errors", "fit", "heard")

    def __init__(self, reads: Sequence[int]) -> None:
        """`reads` are the rows of the features that matter to this target."""
        self._reads = np.array(reads)
        self._off = 0.5
        self._usual = 0.0
        self.heard = 0
        """Samples so far, those included that the line did not learn from."""
        self.fit = ForgettingFit(len(reads), KEEP)
        self.errors = Errors()

    def of(self, features: Floats) -> float:
        """What the line says of one endpoint's features, shape `(d,)`; seconds."""
        return self.fit.of(features[self._reads])

    def learn(self, features: Floats, seen: float, *, sure: bool) -> None:
        """Take a sample in; `sure` when the line already says something above 0."""
        said = self.of(features)
        if sure:
            off = abs(seen - said) / said
            most = MOST_OFF * max(self._off, USUAL) * said
            seen = said + min(max(seen - said, -most), most)
            self._off += (min(off, 2.0) - self._off) / 50
        size = max(said, seen, self._least_size(seen))
        self.fit.learn(features[self._reads], seen, size)

    def _least_size(self, seen: float) -> float:
        """A tenth of the usual time: what is much shorter would outweigh all others."""
        moved = math.log(seen) - self._usual if self.fit.samples else 0.0
        self._usual = self._usual + moved / 50 if self.fit.samples else math.log(seen)
        return SHORTEST * math.exp(self._usual)

    def spread_out(self, width: int) -> Floats:
        """The coefficients over all `width` features, 0 where it reads none."""
        full = np.zeros(width)
        full[self._reads] = self.fit.coefficients
        return full


@dataclass(slots=True)
class EndpointClass:
    """What is known of all endpoints of one kind: a line for each target."""

    name: str
    number: int
    lines: tuple[Line, ...]


class LatencyModel:
    """Predicts each target for each endpoint, and learns from answers.

    `targets` say which rows of the features each target reads. Kept state: told of endpoints that
    go (`on_removed`). Bounded: by slots, and `MOST_CLASSES` classes, beyond which all are `other`.
    """

    def __init__(
        self, clock: Clock, width: int, targets: Sequence[Sequence[int]], least: int
    ) -> None:
        """`least` samples make a class's line worth asking; `width` is the number of features."""
        self._clock = clock
        self._width = width
        self._targets = targets
        self._least = least
        self._classes: dict[str, EndpointClass] = {}
        self._numbered: list[EndpointClass] = []
        self._weights: Floats = np.zeros((0, len(targets), width))
        shape = len(targets), 0
        self._levels: Floats = np.zeros(shape)
        self._factors: Floats = np.ones(shape)
        self._counts: Ints = np.zeros(shape, dtype=np.int64)
        self._heard: Floats = np.zeros(0)
        self._members: Ints = np.zeros(0, dtype=np.int64)
        self._relaxed = clock()

    @property
    def classes(self) -> Iterable[EndpointClass]:
        """Every class that was seen."""
        return self._numbered

    def ready(self, one: EndpointClass, target: int) -> bool:
        """Whether so many answers were seen that predictions are worth something."""
        return one.lines[target].fit.samples >= self._least

    # -- who belongs to what ----------------------------------------------------------------------

    def class_of(self, name: str) -> EndpointClass:
        """The class of this name, made on first use."""
        found = self._classes.get(name)
        if found is None:
            if len(self._classes) >= MOST_CLASSES and name != OTHERS:
                return self.class_of(OTHERS)
            lines = tuple(Line(reads) for reads in self._targets)
            found = self._classes[name] = EndpointClass(name, len(self._classes), lines)
            self._numbered.append(found)
            fresh = np.full((1, len(lines), self._width), np.nan)
            self._weights = np.concatenate([self._weights, fresh])
        return found

    def assign(self, slot: int, name: str) -> None:
        """The endpoint in `slot` is of the class `name`; a change of class forgets its factors."""
        number = self.class_of(name).number
        self._grow(slot)
        if self._members[slot] != number:
            self.on_removed(slot)
            self._members[slot] = number

    def on_removed(self, slot: int) -> None:
        """The endpoint has gone: the slot's next owner starts as its class is."""
        self._grow(slot)
        self._levels[:, slot] = 0.0
        self._factors[:, slot] = 1.0
        self._counts[:, slot] = 0
        self._heard[slot] = -math.inf

    def _grow(self, slot: int) -> None:
        more = slot + 1 - len(self._heard)
        if more <= 0:
            return
        more = max(more, 64)
        targets = len(self._targets)
        self._levels = np.hstack([self._levels, np.zeros((targets, more))])
        self._factors = np.hstack([self._factors, np.ones((targets, more))])
        self._counts = np.hstack([self._counts, np.zeros((targets, more), dtype=np.int64)])
        self._heard = np.concatenate([self._heard, np.full(more, -math.inf)])
        self._members = np.concatenate([self._members, np.full(more, -1)])

    # -- asking -----------------------------------------------------------------------------------

    def predict(self, features: Floats, slots: Ints) -> Floats:
        """Seconds by target and endpoint, shape `(targets, n)`; NaN where a class is not ready.

        `features` has the shape `(width, n)`; every slot has been assigned.
        """
        self._relax()
        said: Floats
        if len(self._weights) == 1:
            said = self._weights[0] @ features
        else:
            # Every class for every endpoint, then each endpoint's own: for 1,000 of 4 classes 55 us
            # more than of one, class by class 500 (test/bench/bench_latency.py).
            rows = np.arange(len(slots))
            said = (self._weights @ features)[self._members[slots], :, rows].T
        return said * self._factors.take(slots, axis=1)

    def _relax(self) -> None:
        """Let factors of endpoints that say nothing go back to 1; once in a second at most."""
        now = self._clock()
        passed = now - self._relaxed
        if passed < 1.0:
            return
        self._relaxed = now
        quiet = np.flatnonzero(now - self._heard > IDLE)
        self._levels[:, quiet] *= 0.5 ** (passed / BACK)
        self._factors = np.exp(self._levels)

    # -- learning ---------------------------------------------------------------------------------

    def learn(
        self, target: int, slot: int, features: Floats, predicted: float, seen: float
    ) -> None:
        """An answer took `seen` seconds where `predicted` were said, NaN for nothing.

        `features` are those of its endpoint when it was picked, shape `(width,)`. Times that are
        no times (not above 0, above an hour) are ignored.
        """
        if not 0.0 < seen <= LONGEST or slot >= len(self._members) or self._members[slot] < 0:
            return
        one = self._numbered[int(self._members[slot])]
        line = one.lines[target]
        if predicted == predicted:
            line.errors.note(predicted, seen)
        said = line.of(features)
        sure = self.ready(one, target) and said > 0
        self._heard[slot] = self._clock()
        if sure:
            self._move(target, slot, seen / said)
        if abs(self._levels[target, slot]) <= ODD:
            line.learn(features, seen / float(self._factors[target, slot]), sure=sure)
        line.heard += 1
        if line.heard % BATCH == 0 and self.ready(one, target):
            self._settle(one, target)

    def _move(self, target: int, slot: int, ratio: float) -> None:
        """One more word on how the endpoint compares with its class."""
        level = float(self._levels[target, slot])
        self._counts[target, slot] += 1
        step = max(STEP, 1.0 / (int(self._counts[target, slot]) + PRIOR))
        leap = min(max(math.log(ratio) - level, -LEAP), LEAP)
        level = min(max(level + step * leap, -FARTHEST), FARTHEST)
        self._levels[target, slot] = level
        self._factors[target, slot] = math.exp(level)

    def _settle(self, one: EndpointClass, target: int) -> None:
        """What the middle of a class has as its factor is the class's own: the line takes it."""
        told = (self._members == one.number) & (self._counts[target] > 0)
        if told.any():
            middle = float(np.median(self._levels[target, told]))
            self._levels[target, told] -= middle
            self._factors[target, told] = np.exp(self._levels[target, told])
            one.lines[target].fit.scale(math.exp(middle))
        self._weights[one.number, target] = one.lines[target].spread_out(self._width)
