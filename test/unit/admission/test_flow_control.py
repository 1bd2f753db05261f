"""Flow control on the request path: real flow, store and plugins, no wire."""

import asyncio
import inspect
import json
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores import pods, store_of

from epp.admission import FlowControl
from epp.admission.build import dispatch_observers, flow_settings
from epp.assemble import House, assemble_text
from epp.datastore.shelf import Shelves
from epp.domain.path import Intake
from epp.domain.request import Head
from epp.domain.response import Ending, ResponseMode
from epp.errors import BadRequest, Expired, ExpiredWithoutEndpoints, NoEndpoints, QueueFull
from epp.flow import Flow, Rules, Setup
from epp.observe.flow_metrics import FlowMetrics
from epp.plugins.catalog import CATALOGUE
from epp.request.reader import RequestReader
from epp.scheduling.subset import in_subset
from epp.ticket import Desk

BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
PLUGINS = [
    {"type": "expected-work-scorer"},
    {"type": "only-there"},
    {"type": "concurrency-detector", "parameters": {"maxConcurrency": 1}},
]


class OnlyThere:
    """Keeps the endpoint whose host the header `only` names; all without it."""

    type = "only-there"

    def filter(self, request, pool):
        host = request.headers.get("only")
        return np.array([host in (None, e.host) for e in pool.endpoints], dtype=np.bool_)


class Quiet:
    """Reports to nobody, but for how many were refused."""

    def __init__(self):
        self.refusals = []

    def placed(self, *told): ...

    def refused(self, request, refusal, seconds, head=None):
        self.refusals.append(refusal)

    def response_started(self, *told): ...

    def first_chunk(self, *told): ...

    def chunk_gap(self, *told): ...

    def ended(self, *told): ...


class Names:
    """Objectives named by their priority; no rewrites."""

    def priority(self, objective):
        return int(objective)

    def target(self, model):
        return None

    def check(self): ...


class House3:
    """A picker without wire, of `size` endpoints that take one request each."""

    def __init__(self, size=1, clock=time.monotonic, **flow):
        self.store = store_of(*pods(size))
        self.clock = clock
        self.metrics = FlowMetrics("test")
        self.quiet = Quiet()
        self.shelves = Shelves()
        assembly = self.assembled(**flow)
        self.control = FlowControl(
            flow_settings(assembly.plan, assembly.instances),
            dispatch_observers(assembly.plan, assembly.instances),
            self.store,
            in_subset,
            self.metrics,
            clock,
        )
        policy = assembly.policy
        setup = Setup(RequestReader(policy.parsers), self.control, policy)
        desk = Desk(self.store, self.quiet, clock)
        self.flow = Flow(setup, Rules(Names(), Names()), desk, Names())
        self.count = 0

    def assembled(self, **flow):
        house = House(
            clock=self.clock, random=random.Random(1), shelf=self.shelves.shelf, secret=b"k" * 16
        )
        detector = {"saturationDetector": {"pluginRef": "concurrency-detector"}}
        config = {
            "apiVersion": "llm-d.ai/v1alpha1",
            "kind": "EndpointPickerConfig",
            "featureGates": ["flowControl"],
            "plugins": PLUGINS,
            "flowControl": {**detector, **flow},
        }
        return assemble_text(json.dumps(config), "test", CATALOGUE.plus([OnlyThere]), house)

    def reload(self, **flow):
        assembly = self.assembled(**flow)
        self.control.reconfigure(flow_settings(assembly.plan, assembly.instances), ())

    def send(self, priority=0, criticality=3, **headers):
        """A ticket, or the task that waits for one."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        context = json.dumps({"criticality": criticality})
        every = {
            ":method": "POST",
            ":path": "/v1/chat/completions",
            "x-gateway-inference-objective": str(priority),
            "x-workload-context": context,
            **named,
        }
        return self.flow.decide(Intake(Head(every), BODY, None, ResponseMode.WATCH))

    @property
    def waiting(self):
        return len(self.control.machine)

    @property
    def inflight(self):
        return self.store.totals().inflight_requests


async def settled():
    """Let everything run that is ready to."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_with_room_a_request_goes_at_once_and_makes_no_task():
    house = House3()

    assert not inspect.isawaitable(house.send())
    assert house.waiting == 0


async def test_without_room_it_waits_until_one_ends():
    house = House3()
    first = house.send()
    second = house.send()
    await settled()
    before = house.waiting
    first.ended(Ending.COMPLETE)
    ticket = await second
    ticket.ended(Ending.COMPLETE)

    assert (before, house.waiting, house.inflight) == (1, 0, 0)


async def test_one_place_lets_one_request_go():
    house = House3()
    first = house.send()
    tasks = [house.send() for _ in range(5)]
    await settled()
    first.ended(Ending.COMPLETE)
    await settled()

    assert (sum(task.done() for task in tasks), house.waiting, house.inflight) == (1, 4, 1)
    await asyncio.gather(*map(cancelled, tasks))


async def cancelled(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_higher_priority_and_criticality_go_first():
    house = House3()
    ticket = house.send()
    order = []

    async def follow(name, task):
        ticket = await task
        order.append(name)
        ticket.ended(Ending.COMPLETE)

    asked = {"low": (-1, 5), "usual": (0, 1), "critical": (0, 5), "high": (7, 1)}
    tasks = [asyncio.create_task(follow(name, house.send(*a))) for name, a in asked.items()]
    await settled()
    ticket.ended(Ending.COMPLETE)
    await asyncio.gather(*tasks)

    assert order == ["high", "critical", "usual", "low"]


@pytest.mark.parametrize("when", ["before its first step", "in the queue", "after it was woken"])
async def test_a_client_that_leaves_costs_nobody_a_turn(when):
    house = House3()
    first = house.send()
    leaver, stayer = house.send(), house.send()
    if when != "before its first step":
        await settled()
    if when == "after it was woken":
        first.ended(Ending.COMPLETE)
        await asyncio.sleep(0)
        assert house.waiting == 1
    leaver.cancel()
    first.ended(Ending.COMPLETE)
    ticket = await asyncio.wait_for(stayer, 2.0)
    ticket.ended(Ending.COMPLETE)
    await settled()

    assert (house.waiting, house.inflight) == (0, 0)
    assert house.control._turn is None, "keeps who has left"


async def test_who_finds_no_endpoint_of_its_own_stops_nobody():
    """The first may only go to the endpoint that is taken."""
    house = House3(size=2)
    full = house.send(only="10.0.0.1")
    picky = house.send(only="10.0.0.1")
    other = house.send()
    await settled()
    waited = not picky.done()
    full.ended(Ending.COMPLETE)
    (await picky).ended(Ending.COMPLETE)
    ticket = await other if inspect.isawaitable(other) else other
    ticket.ended(Ending.COMPLETE)

    assert full.destination == "10.0.0.1:8000"
    assert ticket.destination == "10.0.0.2:8000"
    assert waited
    assert house.inflight == 0


async def test_a_refusal_at_placing_ends_its_turn():
    house = House3()
    first = house.send()
    nowhere, next_one = house.send(only="10.9.9.9"), house.send()
    await settled()
    first.ended(Ending.COMPLETE)
    with pytest.raises(NoEndpoints):
        await nowhere
    (await asyncio.wait_for(next_one, 2.0)).ended(Ending.COMPLETE)

    assert (house.waiting, house.inflight) == (0, 0)


async def test_waiting_ends_with_its_budget():
    house = House3(defaultRequestTTL="30ms")
    ticket = house.send()
    with pytest.raises(Expired) as refused:
        await house.send()
    ticket.ended(Ending.COMPLETE)

    assert refused.value.status == 429
    assert refused.value.retry_after >= 1


async def test_a_client_can_ask_for_a_shorter_wait():
    house = House3()
    ticket = house.send()
    with pytest.raises(Expired):
        await asyncio.wait_for(house.send(x_epp_request_ttl_ms="20"), 2.0)
    ticket.ended(Ending.COMPLETE)


@pytest.mark.parametrize("value", ["", "0", "-3", "soon", "1.5", "9" * 13, "٣"])
async def test_a_wait_that_is_no_number_is_refused(value):
    with pytest.raises(BadRequest):
        House3().send(x_epp_request_ttl_ms=value)


async def test_an_empty_pool_is_waited_for():
    house = House3(size=0)
    task = house.send()
    await settled()
    house.store.set_endpoints("test", pods(1))
    ticket = await asyncio.wait_for(task, 2.0)
    ticket.ended(Ending.COMPLETE)

    assert house.inflight == 0


async def test_nothing_to_wait_for_has_a_budget_of_its_own():
    house = House3(size=0, noEndpointRequestTTL="20ms")
    with pytest.raises(ExpiredWithoutEndpoints) as refused:
        await asyncio.wait_for(house.send(), 2.0)

    assert refused.value.status == 503


async def test_a_full_queue_refuses_and_displaces():
    house = House3(maxRequests=2)
    ticket = house.send()
    low, usual = house.send(-1), house.send(0)
    await settled()
    with pytest.raises(QueueFull):
        house.send(-1)
    high = house.send(5)
    with pytest.raises(QueueFull):
        await low
    ticket.ended(Ending.COMPLETE)
    for task in (high, usual):
        (await asyncio.wait_for(task, 2.0)).ended(Ending.COMPLETE)

    assert (house.waiting, house.inflight) == (0, 0)


async def test_a_reload_keeps_who_waits():
    house = House3()
    ticket = house.send()
    tasks = [house.send() for _ in range(3)]
    await settled()
    house.reload(maxRequests=1)
    ticket.ended(Ending.COMPLETE)
    for task in tasks:
        (await asyncio.wait_for(task, 2.0)).ended(Ending.COMPLETE)

    assert house.inflight == 0


async def test_switched_off_it_lets_everybody_go():
    house = House3()
    tickets = [house.send()]
    tasks = [house.send() for _ in range(3)]
    await settled()
    house.control.open()
    tickets += await asyncio.wait_for(asyncio.gather(*tasks), 2.0)

    assert house.inflight == 4
    for ticket in tickets:
        ticket.ended(Ending.COMPLETE)


async def test_each_leaves_with_one_outcome():
    house = House3(maxRequests=1)
    ticket = house.send()
    leaver = house.send()
    await settled()
    with pytest.raises(QueueFull):
        house.send()
    await cancelled(leaver)
    await settled()
    ticket.ended(Ending.COMPLETE)
    counts = {labels[0]: tally.value for labels, tally in house.metrics.requests.cells.items()}

    assert counts == {"Dispatched": 1, "RejectedCapacity": 1, "EvictedContextCancelled": 1}


STEP = st.one_of(
    st.tuples(st.just("send"), st.integers(-1, 1), st.integers(1, 5)),
    st.tuples(st.just("end"), st.integers(0, 30), st.none()),
    st.tuples(st.just("leave"), st.integers(0, 30), st.none()),
    st.tuples(st.just("run"), st.integers(1, 6), st.none()),
    st.tuples(st.just("pods"), st.integers(0, 3), st.none()),
    st.tuples(st.just("reload"), st.integers(1, 9), st.none()),
)


@settings(max_examples=80)
@given(st.lists(STEP, max_size=50))
def test_nothing_is_lost_and_nobody_is_stuck(steps):
    asyncio.run(walk(steps))


async def walk(steps):
    house = House3(size=2, maxRequests=6)
    tickets, tasks = [], []

    def collect():
        for task in [task for task in tasks if task.done()]:
            tasks.remove(task)
            if not task.cancelled() and task.exception() is None:
                tickets.append(task.result())

    for step, first, second in steps:
        collect()
        match step:
            case "send":
                try:
                    sent = house.send(first, second)
                except QueueFull:
                    continue
                (tasks if inspect.isawaitable(sent) else tickets).append(sent)
            case "end" if tickets:
                tickets.pop(first % len(tickets)).ended(Ending.COMPLETE)
            case "leave" if tasks:
                tasks[first % len(tasks)].cancel()
            case "run":
                for _ in range(first):
                    await asyncio.sleep(0)
            case "pods":
                house.store.set_endpoints("test", pods(first))
            case "reload":
                house.reload(maxRequests=first)
    await settled()
    collect()
    free = len(house.store.view()) > house.inflight
    assert not (free and house.waiting), "somebody waits beside an idle endpoint"
    house.store.set_endpoints("test", pods(2))
    while tasks or tickets:
        for ticket in tickets:
            ticket.ended(Ending.COMPLETE)
        tickets.clear()
        await settled()
        collect()
    assert (house.waiting, house.inflight, len(house.flow.waiting)) == (0, 0, 0)
    assert not house.control._futures
