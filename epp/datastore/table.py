"""The columns: numpy arrays with one place for each endpoint, those that may be picked first.

So the view of a decision is a handful of slices, which cost nothing to take. Loads are written in
place. Gauges are copied before a scrape is written to them if a view holds them, so that a view
never sees half a scrape; in-flight columns stay shared.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from epp.datastore.doubt import doubted
from epp.datastore.entry import NOWHERE, Entry
from epp.datastore.sample import NO_LORA
from epp.domain.endpoint import Endpoint
from epp.domain.pool import Column, Floats, Ints, PoolView, rows_of

GAUGES: Final = (
    "waiting",
    "running",
    "prefill_rate",
    "kv_usage",
    "max_running",
    "kv_blocks",
    "block_size",
    "slowness",
)
TIMES: Final = ("started", "stale_at", "born")
DRAINS: Final = ("level", "settled_at", "front_at")
COUNTS: Final = (
    "slots",
    "inflight_requests",
    "inflight_tokens",
    "inflight_decoding",
    "unseen_tokens",
)
RESERVED: Final = frozenset({*GAUGES, *COUNTS, "age", "fresh", "warmth", "lora"})
"""Names no custom column may take."""
FEW: Final = 8
"""Up to so many draining endpoints a loop is cheaper than columns: 2.5 us for 3, numpy 10."""


class Table:
    """Rows are endpoints, in the order given to `arrange`; the first ones are the view."""

    def __init__(self, slow_start: float) -> None:
        self._slow_start = slow_start
        self._entries: Sequence[Entry] = ()
        self._shown: tuple[Endpoint, ...] = ()
        self._rows: Mapping[int, int] = {}
        # One column at least, so that there always is something to gather from.
        self._gauges = np.zeros((len(GAUGES), 1))
        self._times = np.zeros((len(TIMES), 1))
        self._drains = np.zeros((len(DRAINS), 1))
        self._counts = np.zeros((len(COUNTS), 1), dtype=np.int64)
        self._lora = np.full(1, NO_LORA, dtype=object)
        self._custom: dict[str, Floats] = {}
        self._draining: set[Entry] = set()
        self._all_warm_at = -math.inf
        self._all_fresh_until: float | None = None
        """The first time at which a shown endpoint is stale; None when not known."""
        self._lent = False
        self._columns: dict[str, Column] = {}
        self._slice()

    # -- who stands where -------------------------------------------------------------------------

    def arrange(self, shown: Sequence[Entry], hidden: Sequence[Entry]) -> None:
        """Give every entry its row anew; those not named have none from here on."""
        entries = [*shown, *hidden]
        added = [entry for entry in entries if entry.row == NOWHERE]
        self._gather([entry.row for entry in entries] or [0])
        for entry in self._entries:
            entry.row = NOWHERE
        for row, entry in enumerate(entries):
            entry.row = row
        self._entries = entries
        self._shown = tuple(entry.endpoint for entry in shown)
        self._rows = rows_of(self._shown)
        for entry in added:
            self._counts[0, entry.row] = entry.slot
            self._write_gauges(entry)
            self.write_load(entry)
        self._draining = {entry for entry in self._draining if entry.row != NOWHERE}
        for entry in entries:
            self._write_drain(entry)
        self.write_births()
        self._slice()
        self._lent = False

    def _gather(self, rows: list[int]) -> None:
        # Rows of new entries (-1) gather whatever the last one holds and are written afterwards.
        order = np.array(rows, dtype=np.intp)
        self._gauges = self._gauges[:, order]
        self._times = self._times[:, order]
        self._drains = self._drains[:, order]
        self._counts = self._counts[:, order]
        self._lora = self._lora[order]
        self._custom = {name: column[order] for name, column in self._custom.items()}

    def _slice(self) -> None:
        size = len(self._shown)
        columns: dict[str, Column] = dict(zip(GAUGES, self._gauges[:, :size], strict=True))
        columns.update(zip(COUNTS, self._counts[:, :size], strict=True))
        columns.update((name, column[:size]) for name, column in self._custom.items())
        columns["lora"] = self._lora[:size]
        columns["warmth"] = np.ones(size)
        columns["fresh"] = np.ones(size, dtype=np.bool_)
        self._columns = columns
        self._all_fresh_until = None

    # -- what is known of each --------------------------------------------------------------------

    def write_births(self) -> None:
        """Bring up to date from when on each endpoint's slow start counts."""
        births = [entry.born for entry in self._entries]
        self._times[2, : len(births)] = births
        self._all_warm_at = max(births, default=-math.inf) + self._slow_start

    def write_load(self, entry: Entry) -> None:
        """Bring the in-flight columns and the load of one endpoint up to date, in place."""
        row = entry.row
        if row == NOWHERE:
            return
        account, gauges, counts = entry.account, self._gauges, self._counts
        gauges[0, row], gauges[1, row] = entry.load()
        gauges[2, row] = account.rate.value
        counts[1, row] = account.requests
        counts[2, row] = account.tokens
        counts[3, row] = account.decoding
        counts[4, row] = account.unseen_tokens
        if account.level:
            self._draining.add(entry)
            self._write_drain(entry)
        elif entry in self._draining:
            self._draining.discard(entry)
            self._write_drain(entry)

    def _write_drain(self, entry: Entry) -> None:
        # Few endpoints are asked one by one: nobody looks at these columns then.
        if len(self._entries) <= FEW:
            return
        # One by one: 0.2 us, as a tuple into a column 0.4.
        account, drains, row = entry.account, self._drains, entry.row
        drains[0, row] = account.level
        drains[1, row] = account.settled_at
        drains[2, row] = account.front_at

    def write_due(self, entry: Entry) -> None:
        """Bring up to date until when an endpoint's gauges are believed."""
        if entry.row != NOWHERE:
            self._times[1, entry.row] = entry.stale_at
            self._all_fresh_until = None

    def write_scrape(self, entry: Entry) -> None:
        """Bring all that a scrape changes up to date; views lent before keep what they saw."""
        if entry.row == NOWHERE:
            return
        self._add_columns(entry.sample.custom)
        if self._lent:
            self._renew()
        self._write_gauges(entry)
        self.write_load(entry)

    def _add_columns(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._custom and name not in RESERVED:
                self._custom[name] = np.full(self._lora.size, math.nan)
                self._slice()

    def _renew(self) -> None:
        self._gauges = self._gauges.copy()
        self._times = self._times.copy()
        self._lora = self._lora.copy()
        self._custom = {name: column.copy() for name, column in self._custom.items()}
        self._slice()
        self._lent = False

    def _write_gauges(self, entry: Entry) -> None:
        row, sample = entry.row, entry.sample
        self._times[0, row], self._times[1, row] = entry.started, entry.stale_at
        self._all_fresh_until = None
        self._gauges[3:, row] = (
            sample.kv_usage,
            sample.max_running,
            sample.kv_blocks,
            sample.block_size,
            entry.pace.slowness,
        )
        self._lora[row] = sample.lora
        for name, column in self._custom.items():
            column[row] = sample.custom.get(name, math.nan)

    # -- what a decision sees ---------------------------------------------------------------------

    def view(self, now: float) -> PoolView:
        """The shown endpoints as of `now`."""
        columns = self._columns.copy()
        size, times = len(self._shown), self._times
        columns["age"] = now - times[0, :size]
        if now < self._all_warm_at:
            columns["warmth"] = np.clip((now - times[2, :size]) / self._slow_start, 0.0, 1.0)
        if self._draining:
            columns["inflight_tokens"] = self._undrained(now)
        if self._all_fresh_until is None:
            # The method does the same by way of Python: 2.3 us for 1.3.
            due = np.minimum.reduce(times[1, :size], initial=math.inf)
            self._all_fresh_until = float(due)
        if now > self._all_fresh_until:
            columns["fresh"] = fresh = times[1, :size] >= now
            columns.update(doubted(columns, fresh))
        self._lent = True
        return PoolView(self._shown, columns, self._rows)

    def _undrained(self, now: float) -> Ints:
        """`inflight_tokens` with what is left of the draining ones at `now`."""
        if len(self._draining) <= FEW:
            return self._undrained_by_row(now)
        for row in np.flatnonzero(self._drains[2] <= now).tolist():
            if row < len(self._entries):
                self._entries[row].account.settle(now)
                self.write_load(self._entries[row])
        level, settled_at, _ = self._drains[:, : len(self._shown)]
        left = level - self._columns["prefill_rate"] * (now - settled_at)
        # A millionth of a token is rounding, not work.
        tokens = np.ceil(np.maximum(left, 0.0) - 1e-6).astype(np.int64)
        total: Ints = self._columns["inflight_tokens"] + np.maximum(tokens, 0)
        return total

    def _undrained_by_row(self, now: float) -> Ints:
        for entry in [e for e in self._draining if e.account.front_at <= now]:
            entry.account.settle(now)
            self.write_load(entry)
        total: Ints = self._columns["inflight_tokens"].copy()
        for entry in self._draining:
            account = entry.account
            left = account.level - account.rate.value * (now - account.settled_at)
            if left > 1e-6 and 0 <= entry.row < len(total):
                total[entry.row] += math.ceil(left - 1e-6)
        return total
