"""The datastore: the one writer of what we know, and the view each decision is made on.

Sources say which endpoints there are, the scraper what they report, the request path what it sends.
All of it happens on the loop's thread and nothing here waits.
"""

import math
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import structlog

from epp.datastore.entry import NOWHERE, Entry
from epp.datastore.ledger import Ledger, Reservation
from epp.datastore.members import Members, Slots
from epp.datastore.pace import PoolPace
from epp.datastore.report import Totals, describe, totals
from epp.datastore.sample import Sample
from epp.datastore.settings import StoreSettings
from epp.datastore.shelf import Shelf, Shelves
from epp.datastore.table import Table
from epp.domain.clock import Clock
from epp.domain.endpoint import Endpoint
from epp.domain.pool import PoolView

T = TypeVar("T")
Subscriber: TypeAlias = Callable[[Sequence[Endpoint], Sequence[Endpoint]], None]
"""Called with the endpoints that came and those that went, after the store has changed."""


class Datastore:
    """What we know about the pool.

    `clock` is monotonic, `wall_clock` seconds since the epoch; the latter is read only to place a
    pod's ready time on the former.
    """

    def __init__(
        self, clock: Clock, wall_clock: Clock, settings: StoreSettings, log: Any = None
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._settings = settings
        self._log = log if log is not None else structlog.get_logger("epp.datastore")
        self._members = Members(self._log)
        self._slots = Slots()
        self._entries: dict[str, Entry] = {}
        self._by_address: dict[str, Entry] = {}
        self._table = Table(settings.slow_start)
        self._ledger = Ledger(
            clock,
            self._table,
            settings.arrival_delay,
            self._by_address.get,
            self._judge,
            self._first_token,
        )
        self._pool_pace = PoolPace()
        self._shelves = Shelves()
        self._subscribers: list[Subscriber] = []
        self._removal_hearers: list[Callable[[int], None]] = []
        self._wake_hearers: list[Callable[[Endpoint], None]] = []
        self._failure_hearers: list[Callable[[Endpoint], None]] = []
        self._room_hearers: list[Callable[[], None]] = []
        self._rearrange = False
        self._let_back_at = math.inf

    # -- which endpoints there are ----------------------------------------------------------------

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All known endpoints, whether they may be picked or not."""
        return self._members.all

    @property
    def synced(self) -> bool:
        """Whether a source has delivered its first full set."""
        return self._members.synced

    def endpoint(self, key: str) -> Endpoint | None:
        """The endpoint with this key as it is described now."""
        entry = self._entries.get(key)
        return entry.endpoint if entry else None

    def at(self, address: str) -> Endpoint | None:
        """The endpoint at `host:port`."""
        entry = self._by_address.get(address)
        return entry.endpoint if entry else None

    def inflight(self, key: str) -> int:
        """How many requests of ours are open on the endpoint with this key."""
        entry = self._entries.get(key)
        return entry.account.requests if entry else 0

    def set_endpoints(self, source: str, endpoints: Sequence[Endpoint]) -> None:
        """Take the full set of one source; the same set again changes nothing.

        Of two endpoints with one key or one address the first is kept, the other logged.
        """
        synced = self.synced
        change = self._members.replace(source, endpoints)
        # New ones take their slots first: one that comes back as another never gets its old one.
        added = [self._new_entry(endpoint, synced) for endpoint in change.added]
        gone = [self._entries.pop(endpoint.key) for endpoint in change.removed]
        for entry in gone:
            del self._by_address[entry.endpoint.address]
        for entry in added:
            self._entries[entry.endpoint.key] = entry
            self._by_address[entry.endpoint.address] = entry
        for endpoint in change.updated:
            self._describe_anew(self._entries[endpoint.key], endpoint)
        if not (added or gone or change.updated):
            return
        self._keep_the_share()
        self._arrange()
        self._retire(gone)
        if added or gone:
            for subscriber in self._subscribers:
                subscriber(change.added, change.removed)
        self._may_have_room()

    def _new_entry(self, endpoint: Endpoint, synced: bool) -> Entry:
        born = self._born(endpoint, self._clock() if synced else -math.inf)
        return Entry(endpoint, self._slots.take(), born, self._settings, self._pool_pace)

    def _born(self, endpoint: Endpoint, otherwise: float) -> float:
        if endpoint.ready_since is None:
            return otherwise
        # A node's clock may be ahead of ours: nothing is younger than now.
        return self._clock() - max(0.0, self._wall_clock() - endpoint.ready_since)

    def _describe_anew(self, entry: Entry, endpoint: Endpoint) -> None:
        before, entry.endpoint = entry.endpoint, endpoint
        if endpoint.ready_since != before.ready_since or (endpoint.ready and not before.ready):
            entry.born = self._born(endpoint, self._clock())

    def _retire(self, gone: Iterable[Entry]) -> None:
        for entry in gone:
            try:
                for hear in (*self._removal_hearers, *self._shelves.removal_hearers()):
                    self._tell("removal_hearer_failed", hear, entry.slot)
            finally:
                self._slots.give_back(entry.slot)

    def _first_token(self, request_id: str) -> None:
        for hear in self._shelves.first_token_hearers:
            self._tell("first_token_hearer_failed", hear, request_id)

    def _tell(self, failed: str, hear: Callable[[T], None], what: T) -> None:
        try:
            hear(what)
        except Exception as error:  # noqa: BLE001 - logged; state of plugins must not stop the store
            self._log.error(
                failed,
                error=type(error).__name__,
                trace="".join(traceback.format_tb(error.__traceback__)),
            )

    def subscribe(self, callback: Subscriber) -> None:
        """Tell `callback` of endpoints that come and go from here on."""
        self._subscribers.append(callback)

    def on_removed(self, callback: Callable[[int], None]) -> None:
        """Tell `callback` the slot of each endpoint that goes, before the slot is used again."""
        self._removal_hearers.append(callback)

    def on_wake(self, callback: Callable[[Endpoint], None]) -> None:
        """Tell `callback` of each endpoint that had nothing of ours in flight and now has."""
        self._wake_hearers.append(callback)

    def on_failure(self, callback: Callable[[Endpoint], None]) -> None:
        """Tell `callback` of each endpoint that failed a request: a good time to ask how it is."""
        self._failure_hearers.append(callback)

    def on_room(self, callback: Callable[[], None]) -> None:
        """Tell `callback` whenever an endpoint may have got room for more, or lost it.

        A request ended, a scrape came or failed, endpoints changed.
        """
        self._room_hearers.append(callback)

    def _may_have_room(self) -> None:
        for hear in self._room_hearers:
            hear()

    # -- what they report -------------------------------------------------------------------------

    def scraped(
        self, key: str, started: float, sample: Sample, interval: float | None = None
    ) -> None:
        """Believe `sample`, asked for at `started`; the next one comes in `interval` seconds.

        A key that is not known, or a scrape older than the last one, is ignored.
        """
        entry = self._entries.get(key)
        if entry is None or started < entry.started:
            return
        if sample.sleeping != entry.sample.sleeping:
            self._rearrange = True
        self._note_answer(entry)
        now = self._clock()
        entry.take(sample, started, now, self._settings.arrival_delay)
        entry.stale_at = now + self._patience(interval)
        self._table.write_scrape(entry)
        self._may_have_room()

    def scrape_failed(self, key: str, started: float, why: str, *, refused: bool = False) -> None:
        """Remember why a scrape failed; what is known ages until it is not believed.

        `refused` says that the port requests go to took no connection: nothing more is sent there
        until it answers again, whatever share of the pool that is.
        """
        entry = self._entries.get(key)
        if entry is None or started < entry.started:
            return
        entry.scrape_error = why
        if refused and not entry.refused:
            entry.refused = self._rearrange = True
        self._may_have_room()

    def _note_answer(self, entry: Entry) -> None:
        if entry.refused:
            entry.refused = False
            self._rearrange = True

    def expect(self, key: str, interval: float) -> None:
        """The next scrape of this endpoint comes sooner than promised: doubt it sooner."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.stale_at = min(entry.stale_at, self._clock() + self._patience(interval))
            self._table.write_due(entry)

    def _patience(self, interval: float | None) -> float:
        if interval is None:
            interval = self._settings.scrape_interval
        return max(interval * self._settings.missed_scrapes, self._settings.stale_floor)

    # -- what a decision sees and does ------------------------------------------------------------

    def view(self) -> PoolView:
        """The endpoints that may be picked now: ready, trusted, awake.

        Sleeping ones are shown if there is nothing else, ejected ones if not even those are there.
        Besides the columns of `PoolView`: `inflight_decoding` (requests past their first token),
        `unseen_tokens` (uncached prompt tokens of ours that came too late for the last scrape's
        `kv_usage`), `warmth` (0..1 while an endpoint is new), `max_running` (NaN if unknown),
        `kv_blocks` and `block_size` (0 if unknown), `prefill_rate` (tokens per second),
        `slowness` (seconds its work takes over what it takes elsewhere, 1 if unknown), `lora` (of
        `LoraState`), and whatever samples brought under `custom`.
        """
        now = self._clock()
        if now >= self._let_back_at:
            self._let_back(now)
        if self._rearrange:
            self._arrange()
        return self._table.view(now)

    def reserve(
        self, endpoint: Endpoint, *, tokens: int, request_id: str, drain: bool = False
    ) -> Reservation:
        """Count a request as sent to `endpoint`, now.

        `tokens` are its uncached prompt tokens. `drain` says that its first token will not be seen
        (watch mode, answers that do not stream): the tokens flow off at the endpoint's learned rate
        instead. An endpoint that has gone meanwhile is accepted and counts nowhere.
        Raises ValueError if `tokens` is negative.
        """
        entry = self._entries.get(endpoint.key)
        if entry is None:
            entry = Entry(endpoint, NOWHERE, -math.inf, self._settings, self._pool_pace)
        reservation = self._ledger.open(entry, tokens, request_id, drain=drain)
        if entry.breaker.on_probation:
            self._rearrange = True
        if entry.account.requests == 1 and entry.row != NOWHERE:
            for hear in self._wake_hearers:
                hear(entry.endpoint)
        return reservation

    # -- who is trusted ---------------------------------------------------------------------------

    def _judge(self, entry: Entry, good: bool | None) -> None:
        self._may_have_room()
        if entry.row == NOWHERE:
            return
        # On probation each request less changes whether one more may go there.
        changed = entry.breaker.on_probation
        if good is True:
            self._note_answer(entry)
            changed |= entry.breaker.succeeded()
        elif good is False:
            changed |= self._note_failure(entry)
        self._rearrange |= changed

    def _note_failure(self, entry: Entry) -> bool:
        breaker, now = entry.breaker, self._clock()
        was_ejected = breaker.ejected
        changed = breaker.failed(now, may_eject=self._may_eject())
        for hear in self._failure_hearers:
            hear(entry.endpoint)
        if breaker.ejected and not was_ejected:
            self._let_back_at = min(self._let_back_at, breaker.until)
            self._log.warning(
                "endpoint_ejected",
                endpoint=entry.endpoint.address,
                failures=breaker.failures,
                seconds=breaker.until - now,
            )
        return changed

    def _may_eject(self) -> bool:
        return sum(entry.endpoint.ready for entry in self._ejected()) < self._most_ejected()

    def _most_ejected(self) -> int:
        ready = sum(entry.endpoint.ready for entry in self._entries.values())
        return int(ready * self._settings.eject_share)

    def _ejected(self) -> list[Entry]:
        return [entry for entry in self._entries.values() if entry.breaker.ejected]

    def _let_back(self, now: float) -> None:
        for entry in self._ejected():
            if entry.breaker.until <= now:
                self._readmit(entry)
        self._let_back_at = min((e.breaker.until for e in self._ejected()), default=math.inf)

    def _keep_the_share(self) -> None:
        """Let those back first whose time is up first, when the pool has become smaller."""
        ejected = sorted(self._ejected(), key=lambda entry: entry.breaker.until)
        for entry in ejected[: max(0, len(ejected) - self._most_ejected())]:
            self._readmit(entry)

    def _readmit(self, entry: Entry) -> None:
        entry.breaker.let_back()
        self._rearrange = True
        self._log.info("endpoint_let_back", endpoint=entry.endpoint.address)

    def _arrange(self) -> None:
        shown, hidden = self._ranked()
        self._table.arrange(shown, hidden)
        self._rearrange = False

    def _ranked(self) -> tuple[list[Entry], list[Entry]]:
        entries = list(self._entries.values())
        ready = [entry for entry in entries if entry.endpoint.ready]
        trusted = [e for e in ready if not e.refused and e.breaker.admits(e.account.requests)]
        awake = [entry for entry in trusted if not entry.sample.sleeping]
        shown = awake or trusted or ready
        chosen = {id(entry) for entry in shown}
        return shown, [entry for entry in entries if id(entry) not in chosen]

    # -- what outlives a reload -------------------------------------------------------------------

    def shelf(self, plugin_name: str, plugin_type: str) -> Shelf:
        """Where one plugin keeps its state; the same name and type see the same state.

        Kept state with a method `on_removed(slot)` is told of endpoints that go, one with
        `on_first_token(request_id)` of each answer whose first token is seen.
        """
        return self._shelves.shelf(plugin_name, plugin_type)

    def clear_unused_state(self, in_use: Iterable[Shelf]) -> int:
        """After a reload: drop state no shelf of the new policy asked for; returns how much."""
        return self._shelves.clear_unused(in_use)

    # -- for people -------------------------------------------------------------------------------

    def describe(self) -> list[dict[str, Any]]:
        """Every endpoint for the debug page: raw and corrected gauges, age, in flight, health.

        In the order of `endpoints`.
        """
        now = self._clock()
        pickable = {endpoint.key for endpoint in self.view().endpoints}
        return [
            describe(self._entries[known.key], now, pickable=known.key in pickable)
            for known in self.endpoints
        ]

    def totals(self) -> Totals:
        """The pool in numbers, for gauges."""
        entries = list(self._entries.values())
        return totals(entries, self.view(), len(self._ejected()), self._clock())
