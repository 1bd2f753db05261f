"""One followed endpoint: its sequence, its feed, and the steps between them."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from epp.datastore.residency import Residency
from epp.domain.clock import Clock
from epp.domain.endpoint import Endpoint
from epp.kvevents.feed import Feed
from epp.kvevents.sequence import Apply, Reset, Sequence, Step, Timing
from epp.kvevents.stats import Counts


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one followed endpoint, for people."""

    endpoint: str
    address: str
    """Where its events are fetched, empty where its engine dials."""
    linked: bool
    live: bool
    replays: bool
    next: int | None
    """The number of its next batch; null while there was none."""
    age: float | None
    """Seconds since its last batch; null while there was none."""
    blocks: int
    block_tokens: int
    resets: dict[str, int]


class Source:
    """`ask` is called with a source and the first batch it wants again."""

    def __init__(
        self,
        endpoint: Endpoint,
        slot: int,
        residency: Residency,
        counts: Counts,
        *,
        replays: bool,
        timing: Timing,
        ask: Callable[["Source", int], None],
        clock: Clock,
        log: Any,
    ) -> None:
        self.endpoint = endpoint
        self.slot = slot
        self.sequence = Sequence(replays=replays, counts=counts, timing=timing)
        self.linked_once = False
        self.resets: dict[str, int] = {}
        self._feed = Feed(residency, slot, counts)
        self._residency = residency
        self._replays = replays
        self._ask = ask
        self._clock = clock
        self._log = log
        self._heard: float | None = None

    def heard(self, seq: int, payload: bytes) -> None:
        """A batch by subscription."""
        self._heard = self._clock()
        self._do(self.sequence.received(seq, payload, self._heard))

    def linked(self) -> None:
        """The link stands, for the first time or again."""
        self.linked_once = True
        self._do(self.sequence.linked(self._clock()))

    def replayed(self, seq: int, payload: bytes) -> None:
        self._heard = self._clock()
        self._do(self.sequence.replayed(seq, payload, self._heard))

    def replay_ended(self) -> None:
        self._do(self.sequence.replay_ended(self._clock()))

    def replay_failed(self) -> None:
        self._log.info("kv_events_replay_failed", endpoint=self.endpoint.address)
        self._do(self.sequence.replay_failed(self._clock()))

    def tick(self) -> None:
        self._do(self.sequence.tick(self._clock()))

    def _do(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Apply):
                self._feed.apply(step.payload)
            elif isinstance(step, Reset):
                self._reset(step.why)
            else:
                self._ask(self, step.first)
        self._residency.set_live(self.slot, self.sequence.live)

    def _reset(self, why: str) -> None:
        self._feed.reset(emptied=why == "restart")
        self.resets[why] = self.resets.get(why, 0) + 1
        self._log.info("kv_events_reset", endpoint=self.endpoint.address, why=why)

    def status(self, address: str) -> SourceStatus:
        return SourceStatus(
            endpoint=self.endpoint.name,
            address=address,
            linked=self.linked_once,
            live=self.sequence.live,
            replays=self._replays,
            next=self.sequence.next,
            age=None if self._heard is None else self._clock() - self._heard,
            blocks=self._residency.held(self.slot),
            block_tokens=self._residency.block_tokens(self.slot),
            resets=dict(self.resets),
        )


def identity(endpoint: Endpoint) -> str:
    """An endpoint at another address is another one."""
    return f"{endpoint.key} {endpoint.address}"
