"""After any sequence of events the columns equal those of a slow and obvious model."""

import math
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.stores import HandClock, pod, scrape, store_of

from epp.domain.response import Ending

# Binary fractions, so that the model's sums and the ledger's are exact alike.
RATE = 8.0
ARRIVAL = 0.25
TIMES = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])
# Thirty claims of this many tokens are too few for a rate to be learned from.
TOKENS = st.integers(0, 16)


@dataclass
class Request:
    """What the model remembers of one request."""

    reservation: object
    tokens: int
    dispatched: float
    stage: str
    left: float = 0.0


@dataclass
class Pod:
    """What the model remembers of one endpoint: all its requests, in order of arrival."""

    requests: list[Request] = field(default_factory=list)
    started: float = -math.inf
    waiting: int = 0
    running: int = 0
    limit: float = math.nan

    def drain(self, seconds: float) -> None:
        flow = RATE * seconds
        for request in self.requests:
            if request.stage == "draining" and flow > 0:
                taken = min(flow, request.left)
                flow -= taken
                request.left -= taken
                if not request.left:
                    request.stage = "decode"

    def tokens(self) -> int:
        waiting = sum(r.tokens for r in self.requests if r.stage == "prefill")
        return waiting + math.ceil(sum(r.left for r in self.requests if r.stage == "draining"))

    def load(self) -> tuple[float, float]:
        unseen = sum(r.dispatched > self.started - ARRIVAL for r in self.requests)
        waiting, running = self.waiting, self.running
        total = max(len(self.requests), waiting + running + unseen)
        while waiting + running < total:
            if self.waiting or running >= self.limit:
                waiting += 1
            else:
                running += 1
        return waiting, running


class LedgerMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.clock = HandClock(64.0)
        self.store = store_of(
            pod(0),
            pod(1),
            clock=self.clock,
            prefill_prior=RATE,
            arrival_delay=ARRIVAL,
            eject_after=0,
            slow_start=0.0,
        )
        self.pods = {0: Pod(), 1: Pod()}
        self.orphans: list[Request] = []
        for number in self.pods:
            self.scrape(number, 0.0, 0, 0, None)

    def anywhere(self) -> list[tuple[int, Request]]:
        return [(n, request) for n, one in self.pods.items() for request in one.requests]

    @rule(number=st.sampled_from([0, 1]), tokens=TOKENS, drain=st.booleans())
    def reserve(self, number, tokens, drain):
        reservation = self.store.reserve(pod(number), tokens=tokens, request_id="x", drain=drain)
        stage = ("draining" if tokens else "decode") if drain else "prefill"
        left = float(tokens) if stage == "draining" else 0.0
        request = Request(reservation, tokens, self.clock.now, stage, left)
        self.pods[number].requests.append(request)

    @precondition(lambda self: self.anywhere())
    @rule(data=st.data())
    def first_token(self, data):
        _, request = data.draw(st.sampled_from(self.anywhere()))
        request.reservation.first_token()
        request.stage, request.left = "decode", 0.0

    @precondition(lambda self: self.anywhere())
    @rule(data=st.data(), ending=st.sampled_from(Ending), again=st.booleans())
    def release(self, data, ending, again):
        number, request = data.draw(st.sampled_from(self.anywhere()))
        request.reservation.release(ending, 500)
        if again:
            request.reservation.release(Ending.COMPLETE)
        self.pods[number].requests.remove(request)

    @precondition(lambda self: self.anywhere())
    @rule(data=st.data())
    def served_by_the_other(self, data):
        number, request = data.draw(st.sampled_from(self.anywhere()))
        other = 1 - number
        request.reservation.served_by(pod(other).address)
        self.pods[number].requests.remove(request)
        if request.stage == "draining":
            request.left = float(request.tokens)
        self.pods[other].requests.append(request)

    @rule(seconds=TIMES)
    def wait(self, seconds):
        self.clock.tick(seconds)
        for one in self.pods.values():
            one.drain(seconds)

    @rule(
        number=st.sampled_from([0, 1]),
        took=TIMES,
        waiting=st.integers(0, 3),
        running=st.integers(0, 5),
        limit=st.none() | st.integers(1, 6),
    )
    def scrape(self, number, took, waiting, running, limit):
        one = self.pods[number]
        started = max(self.clock.now - took, one.started)
        most = math.nan if limit is None else float(limit)
        gauges = {"waiting": waiting, "running": running, "max_running": most}
        scrape(self.store, pod(number), started, **gauges)
        one.started, one.waiting, one.running, one.limit = started, waiting, running, most

    @rule(number=st.sampled_from([0, 1]))
    def restart(self, number):
        self.store.set_endpoints("test", [pod(1 - number)])
        self.orphans += self.pods[number].requests
        self.store.set_endpoints("test", [pod(0), pod(1)])
        self.pods[number] = Pod()
        self.scrape(number, 0.0, 0, 0, None)

    @precondition(lambda self: self.orphans)
    @rule()
    def release_orphan(self):
        self.orphans.pop().reservation.release(Ending.COMPLETE, 200)

    @invariant()
    def columns_equal_the_model(self):
        if not hasattr(self, "store"):
            return
        view = self.store.view()
        for at, endpoint in enumerate(view.endpoints):
            model = self.pods[int(endpoint.name[-1])]
            assert view.inflight_requests[at] == len(model.requests)
            assert view.inflight_tokens[at] == model.tokens()
            decoding = sum(request.stage == "decode" for request in model.requests)
            assert view["inflight_decoding"][at] == decoding
            assert (view.waiting[at], view.running[at]) == model.load()

    def teardown(self):
        if not hasattr(self, "store"):
            return
        for _, request in self.anywhere():
            request.reservation.release(Ending.CLIENT_GONE)
        view = self.store.view()
        for name in ("inflight_requests", "inflight_tokens", "inflight_decoding", "unseen_tokens"):
            assert not view[name].any()
        assert self.store.totals().inflight_tokens == 0


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=30)
