"""All we know of one endpoint, apart from the columns it is shown in."""

import math

from epp.datastore.account import Account, corrected
from epp.datastore.ejection import Breaker
from epp.datastore.pace import Pace, PoolPace
from epp.datastore.rate import PrefillRate
from epp.datastore.sample import Sample
from epp.datastore.settings import StoreSettings
from epp.domain.endpoint import Endpoint

NOWHERE = -1
EMPTY = Sample()


class Entry:
    """One endpoint, from its first sight until it goes; outlives that while requests hold on.

    `slot` is its number while it lives, `row` its place in the columns, `NOWHERE` once it has gone.
    """

    __slots__ = (
        "account",
        "born",
        "breaker",
        "endpoint",
        "pace",
        "refused",
        "row",
        "sample",
        "scrape_error",
        "slot",
        "stale_at",
        "started",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        slot: int,
        born: float,
        settings: StoreSettings,
        pool_pace: PoolPace,
    ) -> None:
        self.endpoint = endpoint
        self.slot = slot
        self.row = NOWHERE
        self.born = born
        """When it became ready, on our clock; slow start counts from here."""
        self.account = Account(PrefillRate(settings.prefill_prior))
        self.pace = Pace(pool_pace)
        self.breaker = Breaker(settings)
        self.sample = EMPTY
        self.started = -math.inf
        """When the last good scrape began."""
        self.stale_at = -math.inf
        """From when on its gauges are not believed."""
        self.scrape_error = ""
        self.refused = False
        """Its port took no connection when last asked: nothing can be sent there."""

    def load(self) -> tuple[float, float]:
        """`(waiting, running)`, corrected by our own dispatches."""
        account, sample = self.account, self.sample
        return corrected(
            sample.waiting, sample.running, account.unseen, account.requests, sample.max_running
        )

    def take(self, sample: Sample, started: float, now: float, arrival_delay: float) -> None:
        """Believe a scrape that began at `started`."""
        if self.sample.waiting > 0 and sample.waiting > 0:
            # A queue at both ends: the engine had prompts to work on all the time between.
            tokens = sample.prefilled_tokens - self.sample.prefilled_tokens
            self.account.learn(tokens, started - self.started, now)
        self.pace.saw(sample, started)
        self.account.saw(started - arrival_delay)
        self.sample, self.started, self.scrape_error = sample, started, ""
