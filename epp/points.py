"""Every moment at which a plugin may take part, in the order a request meets them.

A plugin is a small class with `type` (its name in a configuration) and one or more of the methods
below; it inherits nothing. If it takes parameters it has a nested pydantic model `Params`, and its
constructor takes `params`. If it needs something of the house (clock, random numbers, state that
outlives a reload) its constructor also takes `tools`. Nothing else is passed in. The framework owns
the instance's name, its weight and its measurement.

Plugins are synchronous and never wait, but for `FactProducer.gather`. A scorer, complete:

    class QueueScorer:
        \"\"\"queue-scorer: prefers endpoints with fewer waiting requests.\"\"\"
        type = "queue-scorer"
        def score(self, request, pool):
            return lowest_is_best(pool.waiting)
"""

import random
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from epp.domain.clock import Clock
from epp.domain.decision import Decision, ProfileResult
from epp.domain.headers import HeaderChanges, Headers
from epp.domain.path import Json
from epp.domain.pool import Column, Ints, Mask, PoolView, Scores
from epp.domain.request import Head, ParsedBody, Request
from epp.domain.response import Ending, ResponseHead, Usage
from epp.domain.waiting import Contender, Waiting

S = TypeVar("S")


class StateShelf(Protocol):
    """State that outlives a reload of the configuration, owned by the datastore."""

    def keep(self, name: str, make: Callable[[], S], *, shape: str = "") -> S:
        """The state under (plugin, `name`, `shape`), made on first use.

        `shape` is a text of the parameters that shape the state: another shape, another state.
        """
        ...


@dataclass(slots=True, frozen=True)
class Tools:
    """What the house lends to a plugin that asks for it."""

    name: str
    """The instance's name in the configuration."""
    clock: Clock
    random: random.Random
    state: StateShelf
    secret: bytes
    """Key for signing what is handed to clients; random for each process unless configured."""


@runtime_checkable
class Plugin(Protocol):
    """What all plugins share: the name of their type in a configuration."""

    type: ClassVar[str]


# -- 1. bytes become a request ------------------------------------------------------------------


@runtime_checkable
class Parser(Protocol):
    """Reads bodies of some paths. Raises `BadRequest` with the field's name and the fix."""

    paths: ClassVar[tuple[str, ...]]
    """Path endings this parser reads, by whole segments (`chat/completions`); empty reads all."""

    def parse(self, head: Head, body: bytes) -> ParsedBody: ...


@runtime_checkable
class HeaderProcessor(Protocol):
    """Says whose a request is that has no fairness id; empty where it cannot tell."""

    def identity(self, headers: Headers) -> str: ...


# -- 2. facts of the request (may wait, each within its budget) -----------------------------------


@runtime_checkable
class FactProducer(Protocol):
    """Finds out something about a request before it is admitted, and puts it into `request.facts`.

    Failing or being late costs its information, never the request. Returns None when done, or an
    awaitable when it has to wait: for 0.4 seconds, or as many as an attribute `patience` says.
    """

    def gather(self, request: Request) -> Awaitable[None] | None: ...


# -- 3. admission (a room of its own, epp/admission, asks these) ----------------------------------


@runtime_checkable
class SaturationDetector(Protocol):
    """Says how full the pool is: 0 idle, 1 and above saturated.

    With a method `fullness(pool)` as well, which says so of each endpoint (float, shape `(n,)`),
    requests wait for endpoints, not for the pool. With a method `brim(pool)` too, likewise, a
    request for which an endpoint has room may go wherever that says less than its ceiling.
    """

    def saturation(self, pool: PoolView) -> float: ...


@runtime_checkable
class OrderingPolicy(Protocol):
    """Who of one flow goes first. `lane` and `key` are asked once, `rank` and `share` each time."""

    def lane(self, waiting: Waiting) -> Hashable:
        """Requests of one lane never overtake each other but by `key`."""
        ...

    def key(self, waiting: Waiting) -> float:
        """The place inside the lane: smallest first, of equal ones who came first."""
        ...

    def rank(self, waiting: Waiting, now: float) -> float:
        """Compares the heads of lanes, and of flows: smallest first."""
        ...

    def share(self, waiting: Waiting, now: float) -> float:
        """How much of an endpoint this request may fill, above 0 and up to 1."""
        ...


@runtime_checkable
class FairnessPolicy(Protocol):
    """Which flow of a band goes next."""

    def choose(self, band: int, contenders: Sequence[Contender], now: float) -> int:
        """The index of one of `contenders`: two or more flows that could send a request now."""
        ...


@runtime_checkable
class UsageLimitPolicy(Protocol):
    """How full an endpoint may be for the requests of each band."""

    def ceilings(self, priorities: Sequence[int], saturation: float) -> Sequence[float]:
        """For each of `priorities` (highest first): its requests go while fullness is below."""
        ...


@runtime_checkable
class DispatchObserver(Protocol):
    """Learns of each request that left the queue and was placed; also of those that never waited.

    `tokens` are the prompt tokens its endpoint has to compute.
    """

    def dispatched(self, waiting: Waiting, tokens: int, now: float) -> None: ...


# -- 4. facts of the pool (synchronous, against one view) -----------------------------------------


@runtime_checkable
class Screener(Protocol):
    """Rules out endpoints for every profile. Returns a bool mask, shape `(n,)`, True = keep."""

    def screen(self, request: Request, pool: PoolView) -> Mask: ...


@runtime_checkable
class PoolProducer(Protocol):
    """Adds columns of shape `(n,)` to the view for this request, such as cached prompt tokens."""

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]: ...


@runtime_checkable
class Admitter(Protocol):
    """Last word before scheduling: raises `Refused` to turn a request away."""

    def admit(self, request: Request, pool: PoolView) -> None: ...


# -- 5. scheduling: profiles of filters, scorers and a picker -------------------------------------


@runtime_checkable
class ProfileHandler(Protocol):
    """Says which profiles run, one after another, and which result is the primary.

    With an attribute `front_port` above 0, the pick receives its request at that port of its host.
    """

    def next_profiles(
        self, request: Request, results: Mapping[str, ProfileResult | None], names: Sequence[str]
    ) -> Sequence[str]:
        """Names of the profiles to run next; empty when done.

        `results` holds what has run: None where a profile found no endpoint. `names` are all
        configured profiles.
        """
        ...

    def primary(self, results: Mapping[str, ProfileResult | None]) -> str:
        """The name of the profile whose pick receives the request."""
        ...


@runtime_checkable
class Filter(Protocol):
    """Keeps endpoints. Returns a bool mask of shape `(n,)`, True = keep."""

    def filter(self, request: Request, pool: PoolView) -> Mask: ...


@runtime_checkable
class Scorer(Protocol):
    """Rates endpoints in [0, 1], higher is better; None for no opinion on this request.

    Values outside are clamped. The weighted sum over all scorers is what the picker sees.
    """

    def score(self, request: Request, pool: PoolView) -> Scores | None: ...


@runtime_checkable
class Picker(Protocol):
    """Turns total scores (shape `(n,)`) into row numbers, best first, at least one."""

    def pick(self, request: Request, pool: PoolView, totals: Scores) -> Ints | Sequence[int]: ...


# -- 6. after the pick -----------------------------------------------------------------------------


@runtime_checkable
class PickObserver(Protocol):
    """Learns of each pick before the request leaves; may set request headers."""

    def picked(
        self, request: Request, pool: PoolView, decision: Decision
    ) -> HeaderChanges | None: ...


# -- 7. the response ------------------------------------------------------------------------------


@runtime_checkable
class ResponseObserver(Protocol):
    """Sees the response's headers; may change them."""

    def response_started(
        self, request: Request, decision: Decision, head: ResponseHead
    ) -> HeaderChanges | None: ...


@runtime_checkable
class UsageReader(Protocol):
    """Wants token counts of the response; with none configured no body is ever looked at."""

    def used(self, request: Request, decision: Decision, usage: Usage) -> None: ...


@runtime_checkable
class Reporter(Protocol):
    """Tells the gateway of a response whose token counts are known, when its body has ended."""

    def report(
        self, request: Request, decision: Decision, usage: Usage
    ) -> Mapping[str, Mapping[str, Json]]:
        """Dynamic metadata by namespace and key; empty for none."""
        ...


@runtime_checkable
class EndObserver(Protocol):
    """Learns how a placed request ended, exactly once, on every way out."""

    def ended(self, request: Request, decision: Decision, ending: Ending) -> None: ...
