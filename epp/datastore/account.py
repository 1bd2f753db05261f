"""What we have sent to one endpoint and not seen finish, and how that corrects its gauges.

A claim is one request's hold on an endpoint. It starts in PREFILL, where its uncached prompt tokens
wait for their first token; where no first token can be seen it starts in DRAINING instead and its
tokens flow off, first in first out, at the endpoint's learned rate. Both end in DECODE.

The corrected load (all live requests, ours and those of others that the engine reports):

    total = max(own in flight, scraped waiting + scraped running + own not seen by that scrape)

What that is above the scraped sum counts as waiting where the engine has a queue already; else it
joins the batch as far as the batch has room, and the rest waits.
"""

import enum
from typing import Final

from epp.datastore.rate import PrefillRate

STRETCH: Final = 1.0
"""Seconds after which a stretch of prompt work is closed, and its rate learned, at a pause."""
LONGEST_STRETCH: Final = 5.0
"""Seconds after which it is closed without one."""
PAUSE: Final = 0.05
"""First tokens of prompts that were worked off together come closer to each other than this."""


class Stage(enum.Enum):
    """Where a claim stands."""

    PREFILL = "prefill"
    DRAINING = "draining"
    DECODE = "decode"
    OVER = "over"


class Claim:
    """One request's hold on an endpoint; `tokens` are uncached prompt tokens."""

    __slots__ = ("dispatched", "stage", "tokens")

    def __init__(self, tokens: int, dispatched: float, *, drain: bool) -> None:
        self.tokens = tokens
        self.dispatched = dispatched
        if not drain:
            self.stage = Stage.PREFILL
        else:
            self.stage = Stage.DRAINING if tokens else Stage.DECODE


def corrected(
    waiting: float, running: float, unseen: int, own: int, limit: float
) -> tuple[float, float]:
    """`(waiting, running)` with our own dispatches counted in; `limit` is the batch's, NaN if none.

    Neither is ever below its scraped value.
    """
    scraped = waiting + running
    extra = max(own, scraped + unseen) - scraped
    if waiting > 0:
        return waiting + extra, running
    joins = extra if limit != limit else min(extra, max(0.0, limit - running))
    return extra - joins, running + joins


class Account:
    """The sum of the claims on one endpoint, kept as they come and go."""

    __slots__ = (
        "_done",
        "_done_at",
        "_draining",
        "_stretch_began",
        "_unseen",
        "decoding",
        "level",
        "rate",
        "requests",
        "settled_at",
        "tokens",
        "unseen_tokens",
    )

    def __init__(self, rate: PrefillRate) -> None:
        self.rate = rate
        self.requests = 0
        self.decoding = 0
        self.tokens = 0
        """Prompt tokens of claims in PREFILL."""
        self.level = 0.0
        """Prompt tokens of claims in DRAINING that had not flowed off at `settled_at`."""
        self.settled_at = 0.0
        self._draining: dict[Claim, float] = {}
        self._unseen: set[Claim] = set()
        self.unseen_tokens = 0
        """Prompt tokens of the unseen claims: KV memory the last scrape cannot count."""
        self._stretch_began = 0.0
        self._done = 0
        self._done_at = 0.0

    @property
    def unseen(self) -> int:
        """Live claims dispatched too late for the last scrape to have seen them."""
        return len(self._unseen)

    @property
    def front_at(self) -> float:
        """When the first draining claim will have flowed off; infinite if none drains."""
        for left in self._draining.values():
            return self.settled_at + left / self.rate.value
        return float("inf")

    def inflight_tokens(self, now: float) -> float:
        """Prompt tokens whose first token is not seen, or not due yet, at `now`."""
        self.settle(now)
        return self.tokens + self.level

    def join(self, claim: Claim, now: float, *, unseen: bool) -> None:
        """Take on a claim; `unseen` if the last scrape cannot have counted it."""
        self.requests += 1
        if unseen:
            self._unseen.add(claim)
            self.unseen_tokens += claim.tokens
        if claim.stage is Stage.PREFILL:
            if not self.tokens:
                self._begin_stretch(now)
            self.tokens += claim.tokens
        elif claim.stage is Stage.DRAINING:
            self.settle(now)
            self._draining[claim] = float(claim.tokens)
            self.level += claim.tokens
        else:
            self.decoding += 1

    def leave(self, claim: Claim, now: float) -> None:
        """Let a claim go, wherever it stands; its stage stays as it is."""
        self.settle(now)
        self.requests -= 1
        if claim in self._unseen:
            self._unseen.remove(claim)
            self.unseen_tokens -= claim.tokens
        if claim.stage is Stage.PREFILL:
            self._end_prefill(claim, now, done=0)
        elif claim.stage is Stage.DRAINING:
            self._stop_draining(claim)
        else:
            self.decoding -= 1

    def first_token(self, claim: Claim, now: float) -> None:
        """The prompt of `claim` is through: from here it decodes."""
        self.settle(now)
        if claim.stage is Stage.PREFILL:
            self._end_prefill(claim, now, done=claim.tokens)
        elif claim.stage is Stage.DRAINING:
            self._stop_draining(claim)
        else:
            return
        claim.stage = Stage.DECODE
        self.decoding += 1

    def saw(self, horizon: float) -> None:
        """A scrape counted every dispatch up to `horizon` that was live."""
        self._unseen = {claim for claim in self._unseen if claim.dispatched > horizon}
        self.unseen_tokens = sum(claim.tokens for claim in self._unseen)

    def learn(self, tokens: float, seconds: float, now: float) -> None:
        """The engine says it worked off `tokens` of prompt in `seconds` without a pause."""
        self.settle(now)
        self.rate.observe(tokens, seconds)

    def settle(self, now: float) -> None:
        """Let draining tokens flow off up to `now`."""
        flow = self.rate.value * (now - self.settled_at)
        self.settled_at = now
        while self._draining and flow > 0:
            claim, left = next(iter(self._draining.items()))
            if left > flow:
                self._draining[claim] = left - flow
                self.level -= flow
                return
            flow -= left
            self._stop_draining(claim)
            claim.stage = Stage.DECODE
            self.decoding += 1

    def _stop_draining(self, claim: Claim) -> None:
        self.level -= self._draining.pop(claim)
        if not self._draining:
            # Floats do not add up to zero by themselves.
            self.level = 0.0

    def _end_prefill(self, claim: Claim, now: float, *, done: int) -> None:
        if self._is_stretch_over(now):
            self.rate.observe(self._done, self._done_at - self._stretch_began)
            self._begin_stretch(self._done_at)
        self.tokens -= claim.tokens
        if done:
            self._done += done
            self._done_at = now
        if not self.tokens:
            self.rate.observe(self._done, self._done_at - self._stretch_began)
            self._begin_stretch(now)

    def _begin_stretch(self, now: float) -> None:
        self._stretch_began = self._done_at = now
        self._done = 0

    def _is_stretch_over(self, now: float) -> bool:
        lasted = self._done_at - self._stretch_began
        pause = now - self._done_at
        return lasted >= LONGEST_STRETCH or (lasted >= STRETCH and pause >= PAUSE)
