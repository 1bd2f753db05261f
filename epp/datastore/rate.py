"""How fast an endpoint works through prompts: a learned number of tokens per second.

The ratio of two decaying sums, tokens prefilled and the time it took, both begun with a prior worth
two seconds: `rate = (prior x 2 + sum tokens) / (2 + sum seconds)`. Only stretches in which the
engine had prompt work all the time are fed in, so idle time never dilutes it; stretches of fewer
than `LEAST_TOKENS` are ignored, since round trips dominate them. One stretch never counts as more
than `LEAP` times faster or slower than what is believed: a hang or a clock jump moves it a little.
"""

from typing import Final

LEAST_TOKENS: Final = 512
LEAP: Final = 8.0
PRIOR_SECONDS: Final = 2.0
HALF_LIFE: Final = 30.0
"""Seconds of prompt work after which an observation weighs half."""


class PrefillRate:
    """Prefill rate of one endpoint; `value` in tokens per second, always positive."""

    __slots__ = ("_prior", "_seconds", "_tokens", "value")

    def __init__(self, prior: float) -> None:
        if prior <= 0:
            raise ValueError(f"the prior of a prefill rate must be positive, not {prior}")
        self._prior = prior
        self._tokens = 0.0
        self._seconds = 0.0
        self.value = prior

    def observe(self, tokens: float, seconds: float) -> None:
        """Learn that `tokens` of prompt took `seconds` of uninterrupted prompt work."""
        if not tokens >= LEAST_TOKENS or not seconds > 0:
            return  # Too little to learn from, or a counter that is not there (NaN).
        expected = tokens / self.value
        seconds = min(max(seconds, expected / LEAP), expected * LEAP)
        keep = 0.5 ** (seconds / HALF_LIFE)
        self._tokens = self._tokens * keep + tokens
        self._seconds = self._seconds * keep + seconds
        self.value = (self._prior * PRIOR_SECONDS + self._tokens) / (PRIOR_SECONDS + self._seconds)
