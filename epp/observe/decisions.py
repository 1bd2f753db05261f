"""The record of recent decisions: why each request went where it went.

On the request path only references are kept; words and numbers are put together when somebody asks.
The ring is bounded by count and by an estimate of bytes, and never holds a body or a prompt.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import msgspec

from epp.domain.decision import Decision, ProfileResult
from epp.domain.headers import REQUEST_ID
from epp.domain.request import Request
from epp.domain.response import Ending
from epp.errors import Refused

BYTES_FIXED: Final = 1500
BYTES_PER_SCORE: Final = 32
BYTES_PER_NAME: Final = 16
BYTES_PER_FILTER: Final = 1000
LONGEST_NAME: Final = 256


class ScorerWord(msgspec.Struct, frozen=True):
    """One scorer's weight and its score of each candidate, by endpoint name."""

    name: str
    weight: float
    scores: Mapping[str, float]


class FilterWord(msgspec.Struct, frozen=True):
    """What one filter or screener removed, by endpoint name."""

    name: str
    removed: tuple[str, ...]


class ProfileRecord(msgspec.Struct, frozen=True):
    """One profile's way to its pick, best first. `totals` go by endpoint name."""

    profile: str
    picked: tuple[str, ...]
    candidates: tuple[str, ...] = ()
    filters: tuple[FilterWord, ...] = ()
    scorers: tuple[ScorerWord, ...] = ()
    totals: Mapping[str, float] = {}


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one request. Times in seconds; `arrived` is of the monotonic clock."""

    id: str
    client_id: str = ""
    """What the client sent as `x-request-id`; several requests may share it."""
    kind: str = ""
    model: str = ""
    target_model: str = ""
    priority: int = 0
    objective: str = ""
    fairness_id: str = ""
    prompt_tokens: int = 0
    arrived: float = 0.0
    seconds: float = 0.0
    """What placing took; for a refusal, how long after its arrival it came."""
    destination: str = ""
    reason: str = ""
    profiles: tuple[ProfileRecord, ...] = ()
    status: int = 0
    """Of a refusal, or of the response; 0 while none is known."""
    refusal: str = ""
    """Why it was refused; empty if it was placed."""
    ending: str = ""
    """How it ended; empty while it is open or if it was refused."""


class Entry:
    """What the ring holds of a request: references to small things only."""

    __slots__ = ("bytes", "decision", "ending", "facts", "refusal", "seconds", "status")

    def __init__(self, request: Request, seconds: float) -> None:
        self.facts = (
            request.id,
            request.head.headers.get(REQUEST_ID, ""),
            request.model,
            request.target_model,
            request.objective,
            request.fairness_id,
            request.kind,
            request.priority,
            request.prompt_tokens,
            request.arrived,
        )
        self.seconds = seconds
        self.decision: Decision | None = None
        self.refusal: tuple[str, str] | None = None
        self.ending: Ending | None = None
        self.status = 0
        self.bytes = BYTES_FIXED + sum(map(len, self.facts[1:6]))


class DecisionLog:
    """The last decisions, at most `max_records` and about `max_bytes` of them."""

    def __init__(self, *, max_records: int = 1024, max_bytes: int = 16 << 20) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def held_bytes(self) -> int:
        """The estimate that `max_bytes` bounds."""
        return self._bytes

    # -- on the request path --------------------------------------------------------------------

    def placed(self, request: Request, decision: Decision, seconds: float) -> None:
        """Keep why `request` went where it went."""
        entry = Entry(request, seconds)
        entry.decision = decision
        entry.bytes += estimate(decision)
        self._keep(request.id, entry)

    def refused(self, request: Request | None, refusal: Refused, seconds: float) -> None:
        """Keep why `request` was turned away; one that could not be read leaves no record."""
        if request is not None:
            entry = Entry(request, seconds)
            # Not the exception itself: it would hold its frames, and with them the body.
            entry.refusal = (refusal.message, refusal.reason)
            entry.status = refusal.status
            self._keep(request.id, entry)

    def ended(self, request_id: str, ending: Ending, status: int) -> None:
        """Note how a placed request ended."""
        entry = self._entries.get(request_id)
        if entry is not None:
            entry.ending, entry.status = ending, status

    def _keep(self, request_id: str, entry: Entry) -> None:
        if (before := self._entries.pop(request_id, None)) is not None:
            self._bytes -= before.bytes
        self._entries[request_id] = entry
        self._bytes += entry.bytes
        while len(self._entries) > self._max_records or self._bytes > self._max_bytes:
            _, gone = self._entries.popitem(last=False)
            self._bytes -= gone.bytes

    # -- when somebody asks ---------------------------------------------------------------------

    def find(self, request_id: str) -> tuple[DecisionRecord, ...]:
        """Records of our id, or of the client's `x-request-id`, newest first."""
        if (entry := self._entries.get(request_id)) is not None:
            return (record(entry),)
        entries = reversed(self._entries.values())
        return tuple(record(entry) for entry in entries if entry.facts[1] == request_id)

    def last(self, count: int = 20) -> tuple[DecisionRecord, ...]:
        """The newest records, newest first."""
        newest = list(self._entries.values())[-count:] if count > 0 else []
        return tuple(record(entry) for entry in reversed(newest))


def estimate(decision: Decision) -> int:
    """About how many bytes a decision's trace holds on to.

    Only lengths that cost nothing are read: a trace may put its words together when it is asked.
    """
    size = 0
    for result in (decision.primary, *decision.others):
        if (trace := result.trace) is not None:
            of_one = BYTES_PER_NAME + BYTES_PER_SCORE * (len(trace.scores) + 1)
            size += len(trace.candidates) * of_one + len(trace.filtered) * BYTES_PER_FILTER
    return size


def record(entry: Entry) -> DecisionRecord:
    """Put an entry into words."""
    names = (
        "id",
        "client_id",
        "model",
        "target_model",
        "objective",
        "fairness_id",
        "kind",
        "priority",
        "prompt_tokens",
        "arrived",
    )
    told: dict[str, object] = {
        name: fact[:LONGEST_NAME] if isinstance(fact, str) else fact
        for name, fact in zip(names, entry.facts, strict=True)
    }
    told |= {"seconds": entry.seconds, "status": entry.status}
    if entry.ending is not None:
        told["ending"] = entry.ending.value
    if entry.refusal is not None:
        told["refusal"], told["reason"] = entry.refusal
    if (decision := entry.decision) is not None:
        told |= {"destination": decision.destination, "reason": decision.reason}
        told["profiles"] = tuple(profile(r) for r in (decision.primary, *decision.others))
    return msgspec.convert(told, DecisionRecord)


def profile(result: ProfileResult) -> ProfileRecord:
    """One profile's result with its trace, if one was kept."""
    picked = tuple(endpoint.name for endpoint in result.picked)
    trace = result.trace
    if trace is None:
        totals = dict(zip(picked, result.totals, strict=False))
        return ProfileRecord(result.profile, picked, totals=totals)
    names = tuple(trace.candidates)
    return ProfileRecord(
        profile=result.profile,
        picked=picked,
        candidates=names,
        filters=tuple(FilterWord(word.name, tuple(word.removed)) for word in trace.filtered),
        scorers=tuple(
            ScorerWord(word.name, word.weight, dict(zip(names, word.scores, strict=False)))
            for word in trace.scores
        ),
        totals=dict(zip(names, trace.totals, strict=False)),
    )
