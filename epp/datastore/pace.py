"""How slow an endpoint is beside the others: what its work takes over what the pool says.

First tokens tell how fast it reads, and only where they are seen or waited for; its counters tell
at any time. A window is a second or more between two pages in which requests ran all the time. What
it should have lasted follows from what was done in it, by a line that all endpoints share and that
is learned from their windows:

    seconds = c0 * steps + c1 * prefilled + c2 * generated + c3 * steps * held

`steps` are generated tokens over running requests, `held` tokens in KV memory, both means over the
window: the weights that each step reads, the prompts, the batch and its contexts. The slowness of
an endpoint is the ratio of two decaying sums, the seconds its windows lasted over those they should
have, both begun with a prior worth 1.5. Time without work fades them too, so that one that was
slow is tried again. A ratio of less than `DOUBT`, or within the line's own error, is taken for
chance: among equals, and while batches grow into what the line has not seen, all are exactly 1.
"""

import math
from typing import Final

import numpy as np

from epp.datastore.regression import ForgettingFit
from epp.datastore.sample import Sample
from epp.domain.pool import Floats

WINDOW: Final = 1.0
"""Seconds of work that are judged together, at least."""
LONGEST: Final = 30.0
"""A window without a word that is longer tells nothing: all its prompts were long, or it hangs."""
PRIOR_SECONDS: Final = 1.5
HALF_LIFE: Final = 8.0
"""Seconds of work after which a window weighs half."""
FADE: Final = 60.0
"""Seconds without work after which it does."""
LEAP: Final = 4.0
"""No window counts as more than so many times faster or slower than what is believed."""
DOUBT: Final = 1.15
"""What the line does not know, adapters and lengths, makes a tenth."""
ERRORS: Final = 2.0
"""The line's usual error counts so many times over in what is taken for chance."""
FIRST_ERROR: Final = 1.0
LEAST_ERROR, MOST_ERROR = 0.01, 2.0
STEP: Final = 0.1
"""By how much a window moves the error: from the first to a usual one, a tenth, in some 25."""
NEW: Final = 0.04
"""What a window weighs in the mean ratio of all."""
BOUND: Final = 8.0
ENOUGH: Final = 48
"""Windows of the whole pool before any of them is judged."""
KEEP: Final = 0.998
"""What a window still weighs in the line after the next one: some 350 of them count half."""
SIZES: Final = np.array([1e2, 1e4, 1e3, 1e7])
"""What each feature comes to in a second, about: fits want features of size 1."""


class PoolPace:
    """What work takes on an endpoint of the usual speed.

    A line fitted to noisy work lies too low, by a tenth or more: what windows took over what it
    says of them, in the mean, is made good.
    """

    __slots__ = ("_fit", "_said", "_took", "error", "usual")

    def __init__(self) -> None:
        self._fit = ForgettingFit(len(SIZES), KEEP)
        self._took = self._said = 0.0
        self.error = FIRST_ERROR
        """How far windows are from what is believed of them: the median of the logarithm's size."""
        self.usual = 0.0
        """Mean logarithm of all ratios: what is not 0 in all of them is the line's fault."""

    def expected(self, work: Floats) -> float:
        """Seconds `work` should take; NaN while too little is known."""
        return self._fit.of(work) * self._took / self._said if self._said > 0 else math.nan

    @property
    def doubt(self) -> float:
        """The ratio up to which a difference may be the line's own error."""
        return max(DOUBT, math.exp(ERRORS * self.error))

    def judged(self, seconds: float, believed: float, ratio: float) -> None:
        """A window on an endpoint that is taken for `ratio` as slow was `believed` to last so."""
        further = abs(math.log(seconds / believed)) > self.error
        error = self.error * math.exp(STEP if further else -STEP)
        self.error = min(max(error, LEAST_ERROR), MOST_ERROR)
        self.usual += (math.log(ratio) - self.usual) * NEW

    def learn(self, work: Floats, seconds: float) -> None:
        """It took `seconds` where the speed is the usual one."""
        if self._fit.samples >= ENOUGH:
            self._took = self._took * KEEP + seconds
            self._said = self._said * KEEP + self._fit.of(work)
        self._fit.learn(work, seconds, seconds)


class Window:
    """What happened on one endpoint from its page `first` on, in which requests were running."""

    __slots__ = ("_began", "_counted", "_first", "_held", "_last", "_ran", "until")

    def __init__(self, first: Sample, at: float) -> None:
        self._first = self._counted = self._last = first
        self._began = self.until = at
        self._ran = self._held = 0.0

    @property
    def seconds(self) -> float:
        return self.until - self._began

    @property
    def prefilled(self) -> float:
        return self._counted.prefilled_tokens - self._first.prefilled_tokens

    @property
    def generated(self) -> float:
        return self._counted.generated_tokens - self._first.generated_tokens

    @property
    def holds(self) -> bool:
        """Whether it can still tell something: counters that go back began anew."""
        return self.generated >= 0 and self.prefilled >= 0 and self.seconds <= LONGEST

    @property
    def is_whole(self) -> bool:
        return self.seconds >= WINDOW and self.generated > 0

    def extend(self, sample: Sample, at: float) -> None:
        """Up to the page `sample`, asked for at `at`; gauges change evenly between two pages."""
        half, before = (at - self.until) / 2, self._last
        self._ran += half * (before.running + sample.running)
        self._held += half * (_held(before) + _held(sample))
        self._last, self.until = sample, at
        if counts(sample):
            self._counted = sample

    def work(self) -> Floats:
        """The features of the line, shape `(4,)`; for a whole one."""
        steps = self.generated * self.seconds / self._ran
        held = self._held / self.seconds
        found: Floats = np.array([steps, self.prefilled, self.generated, steps * held]) / SIZES
        return found


class Pace:
    """The slowness of one endpoint: 2 for twice the time; `1 / BOUND`..`BOUND`, 1 if unknown."""

    __slots__ = ("_expected", "_pool", "_ratio", "_rested_at", "_seconds", "_window", "slowness")

    def __init__(self, pool: PoolPace) -> None:
        self._pool = pool
        self._seconds = self._expected = 0.0
        self._ratio = self.slowness = 1.0
        self._rested_at = 0.0
        self._window: Window | None = None

    def saw(self, sample: Sample, at: float) -> None:
        """A page asked for at `at`; counters need not be on every one."""
        window = self._window
        if not sample.running > 0:
            self._window = None
            self._fade(at)
        elif window is None or at <= window.until:
            self._window = Window(sample, at) if counts(sample) else None
        else:
            window.extend(sample, at)
            if counts(sample):
                self._look_at(window, sample, at)

    def _look_at(self, window: Window, sample: Sample, at: float) -> None:
        if window.holds and not window.is_whole:
            return
        if window.holds:
            self._judge(window.work(), window.seconds)
            self._rested_at = at
        self._window = Window(sample, at)

    def _judge(self, work: Floats, seconds: float) -> None:
        expected = self._pool.expected(work)
        self._pool.learn(work, seconds / self._ratio * math.exp(self._pool.usual))
        if not expected > 0:
            return
        believed = expected * self._ratio
        self._pool.judged(seconds, believed, self._ratio)
        seconds = min(max(seconds, believed / LEAP), believed * LEAP)
        self._weigh(0.5 ** (seconds / HALF_LIFE), seconds, expected)

    def _fade(self, at: float) -> None:
        """Half of what is known goes in `FADE` seconds of rest; done a second or more at once."""
        rested = at - self._rested_at
        if self._seconds and rested >= WINDOW:
            self._weigh(0.5 ** (rested / FADE), 0.0, 0.0)
            self._rested_at = at

    def _weigh(self, keep: float, seconds: float, expected: float) -> None:
        self._seconds = self._seconds * keep + seconds
        self._expected = self._expected * keep + expected
        ratio = (PRIOR_SECONDS + self._seconds) / (PRIOR_SECONDS + self._expected)
        self._ratio = min(max(ratio, 1 / BOUND), BOUND)
        shown = self._ratio / math.exp(self._pool.usual)
        self.slowness = beyond_doubt(shown, self._pool.doubt)


def beyond_doubt(ratio: float, doubt: float) -> float:
    """`ratio` from `DOUBT` beyond `doubt` on, 1 up to `doubt`, either way; evenly between."""
    beyond = (abs(math.log(ratio)) - math.log(doubt)) / math.log(DOUBT)
    return float(ratio ** min(max(beyond, 0.0), 1.0))


def counts(sample: Sample) -> bool:
    """Whether its page was searched for counters, and has them."""
    return sample.generated_tokens >= 0 and sample.prefilled_tokens >= 0


def _held(sample: Sample) -> float:
    """Tokens in KV memory; 0 if its size is unknown."""
    return sample.kv_usage * sample.kv_blocks * sample.block_size
