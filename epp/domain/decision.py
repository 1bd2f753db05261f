"""What was decided about a request, and why: enough to explain it later."""

import msgspec

from epp.domain.endpoint import Endpoint, join_address


class ScoredBy(msgspec.Struct, frozen=True):
    """One scorer's word: instance name, weight, and scores aligned with the candidates."""

    name: str
    weight: float
    scores: tuple[float, ...]


class FilteredBy(msgspec.Struct, frozen=True):
    """What one filter or screener removed: its instance name and the endpoints' names."""

    name: str
    removed: tuple[str, ...]


class ProfileTrace(msgspec.Struct, frozen=True):
    """How one profile came to its pick. `candidates` are those that survived the filters."""

    profile: str
    filtered: tuple[FilteredBy, ...] = ()
    candidates: tuple[str, ...] = ()
    scores: tuple[ScoredBy, ...] = ()
    totals: tuple[float, ...] = ()


class ProfileResult(msgspec.Struct, frozen=True):
    """The endpoints a profile picked, best first, with their total scores."""

    profile: str
    picked: tuple[Endpoint, ...]
    totals: tuple[float, ...] = ()
    trace: ProfileTrace | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes: the primary profile's pick, best first, never empty."""

    request_id: str
    primary: ProfileResult
    others: tuple[ProfileResult, ...] = ()
    reason: str = ""
    """One line for people: which plugins decided, or that only one endpoint was left."""
    front_port: int = 0
    """Where it is not 0, requests go to this port of the pick's host, whichever port was picked."""

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint the request is sent to first."""
        return self.primary.picked[0]

    @property
    def destination(self) -> str:
        """Comma list of `host:port`, best first, as header and metadata carry it.

        Behind a front port it is one address: what tells the host which of its ports was picked
        would be wrong at another.
        """
        first, *others = self.primary.picked
        if self.front_port:
            return join_address(first.host, self.front_port)
        return ",".join([first.address, *(e.address for e in others)]) if others else first.address
