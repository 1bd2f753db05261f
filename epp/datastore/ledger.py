"""What we sent and have not seen finish: reservations, each freed exactly once.

A reservation is its own key: nothing here looks at an id that a client could choose.
"""

from collections.abc import Callable
from typing import TypeAlias

from epp.datastore.account import Claim, Stage
from epp.datastore.ejection import verdict
from epp.datastore.entry import Entry
from epp.datastore.table import Table
from epp.domain.clock import Clock
from epp.domain.endpoint import Endpoint
from epp.domain.response import Ending

Find: TypeAlias = Callable[[str], Entry | None]
"""The entry at an address `host:port`."""
Judge: TypeAlias = Callable[[Entry, bool | None], None]
"""Called when a request has ended, with what that says of the endpoint (`ejection.verdict`)."""
FirstToken: TypeAlias = Callable[[str], None]
"""Called with our id of a request whose first token is seen."""


class Ledger:
    """Opens, moves and closes claims, and keeps the columns in step with them."""

    def __init__(
        self,
        clock: Clock,
        table: Table,
        arrival_delay: float,
        find: Find,
        judge: Judge,
        first_token: FirstToken,
    ) -> None:
        self._clock = clock
        self._table = table
        self._arrival_delay = arrival_delay
        self._find = find
        self._judge = judge
        self._tell_first_token = first_token

    def open(self, entry: Entry, tokens: int, request_id: str, *, drain: bool) -> "Reservation":
        """A new claim on `entry`, as of now. Raises ValueError for a negative count of tokens."""
        if tokens < 0:
            raise ValueError(f"tokens must not be negative, not {tokens}")
        now = self._clock()
        claim = Claim(tokens, now, drain=drain)
        self._join(entry, claim, now)
        return Reservation(self, entry, claim, request_id)

    def first_token(self, entry: Entry, claim: Claim, request_id: str) -> None:
        """The prompt of `claim` is through."""
        if claim.stage is not Stage.OVER:
            entry.account.first_token(claim, self._clock())
            self._table.write_load(entry)
            self._tell_first_token(request_id)

    def move(self, entry: Entry, claim: Claim, address: str) -> Entry:
        """Where `claim` stands when `address` has served it; an unknown address changes nothing."""
        found = self._find(address)
        if found is None or found is entry or claim.stage is Stage.OVER:
            return entry
        now = self._clock()
        entry.account.leave(claim, now)
        self._table.write_load(entry)
        self._join(found, claim, now)
        self._judge(entry, None)
        return found

    def close(self, entry: Entry, claim: Claim, ending: Ending, status: int | None) -> None:
        """Free what `claim` holds; a second close does nothing."""
        if claim.stage is Stage.OVER:
            return
        entry.account.leave(claim, self._clock())
        claim.stage = Stage.OVER
        self._table.write_load(entry)
        self._judge(entry, verdict(ending, status))

    def _join(self, entry: Entry, claim: Claim, now: float) -> None:
        unseen = claim.dispatched > entry.started - self._arrival_delay
        entry.account.join(claim, now, unseen=unseen)
        self._table.write_load(entry)


class Reservation:
    """One request's hold on an endpoint. Whoever reserves must release, on every way out."""

    __slots__ = ("_claim", "_entry", "_ledger", "request_id")

    def __init__(self, ledger: Ledger, entry: Entry, claim: Claim, request_id: str) -> None:
        self._ledger = ledger
        self._entry = entry
        self._claim = claim
        self.request_id = request_id
        """Ours, and unique; keys nothing here."""

    @property
    def endpoint(self) -> Endpoint:
        """Where the load is counted: the pick, or what the gateway used instead."""
        return self._entry.endpoint

    @property
    def since(self) -> float:
        """When it was opened."""
        return self._claim.dispatched

    @property
    def released(self) -> bool:
        return self._claim.stage is Stage.OVER

    def first_token(self) -> None:
        """The first token of the answer is seen; further calls do nothing."""
        self._ledger.first_token(self._entry, self._claim, self.request_id)

    def served_by(self, address: str) -> None:
        """The gateway says that `address` (`host:port`) answered: the load moves there."""
        self._entry = self._ledger.move(self._entry, self._claim, address)

    def release(self, ending: Ending, status: int | None = None) -> None:
        """The request is over; further calls do nothing."""
        self._ledger.close(self._entry, self._claim, ending, status)
