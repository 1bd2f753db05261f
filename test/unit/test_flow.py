"""The request path without a wire: what is held is given back, whatever goes wrong."""

import asyncio
import random
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from support.pools import request
from support.stores import HandClock, pod, pods, store_of

from epp.admission import SheddingGate
from epp.assemble import House, assemble_text
from epp.datastore.shelf import Shelves
from epp.domain.path import Intake
from epp.domain.request import Head, Key, SubsetHint
from epp.domain.response import Ending, ResponseHead, ResponseMode
from epp.errors import BadRequest, NoEndpoints, NotCached, Overloaded, Refused, Saturated
from epp.flow import Flow, Rules, Setup, gather
from epp.plugins.catalog import CATALOGUE
from epp.request.gen.vllm_engine_pb2 import GenerateRequest
from epp.request.grpc import framed
from epp.request.reader import RequestReader
from epp.ticket import Desk, Shown
from epp.tokens.tokenized import TOKENIZED, Tokenized

BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
HEADERS = {":method": "POST", ":path": "/v1/chat/completions"}


@dataclass
class Told:
    """Reports that remember, and fail when asked to."""

    fails: bool = False
    heard: list[Any] = field(default_factory=list)
    heads: list[Any] = field(default_factory=list)

    def placed(self, request, decision, seconds):
        self.heard.append("placed")
        if self.fails:
            raise ZeroDivisionError

    def refused(self, request, refusal, seconds, head=None):
        self.heard.append(refusal.code)
        self.heads.append(head)

    def response_started(self, request, decision, status, seconds):
        self.heard.append(status)

    def first_chunk(self, request, decision, seconds):
        self.heard.append("first chunk")

    def chunk_gap(self, request, seconds):
        self.heard.append("gap")

    def ended(self, request, decision, outcome):
        self.heard.append(outcome.ending)


@dataclass
class Table:
    """Objectives and rewrites."""

    known: dict[str, Any] = field(default_factory=dict)

    def priority(self, objective):
        return self.known.get(objective, 0)

    def target(self, model):
        return self.known.get(model)


@dataclass
class Door:
    """A gate that lets through when told to, or says no."""

    wait: asyncio.Future | None = None
    no: Refused | None = None

    def admit(self, request, pool):
        if self.no:
            raise self.no
        return self.wait

    def room(self, request, pool):
        return None

    def placed(self, request, tokens):
        pass

    def left(self, request):
        pass

    def check(self):
        if self.no:
            raise self.no


OPEN = Door()


def flow_of(
    *, endpoints=None, told=None, gate=OPEN, shed=OPEN, known=None, shown=None, config=None
):
    clock = HandClock()
    store = store_of(*(pods(3) if endpoints is None else endpoints), clock=clock)
    house = House(clock=clock, random=random.Random(1), shelf=Shelves().shelf, secret=b"k" * 16)
    policy = assemble_text(config, "", CATALOGUE, house).policy
    setup = Setup(RequestReader(policy.parsers), gate or SheddingGate(policy.saturation), policy)
    rules = Rules(Table(known or {}), Table(known or {}))
    return Flow(setup, rules, Desk(store, told or Told(), clock, shown or Shown()), shed), store


def intake(body=BODY, headers=None, subset=None, mode=ResponseMode.FULL):
    return Intake(Head({**HEADERS, **(headers or {})}), body, subset, mode)


def held(store):
    return store.totals().inflight_requests


def test_a_placed_request_is_held_until_it_ends():
    flow, store = flow_of()
    ticket = flow.decide(intake())
    during = held(store)
    ticket.ended(Ending.COMPLETE)

    assert (during, held(store)) == (1, 0)


def test_a_second_end_changes_nothing():
    told = Told()
    flow, store = flow_of(told=told)
    ticket = flow.decide(intake())
    ticket.ended(Ending.COMPLETE)
    ticket.ended(Ending.CLIENT_GONE)

    assert (told.heard, held(store)) == (["placed", Ending.COMPLETE], 0)


LONG = b'{"model": "m", "prompt": "%s"}' % (b"a warm cache or none at all; " * 200)
COMPLETION = {":path": "/v1/completions"}


def test_if_available_is_refused_where_the_prompt_is_not_cached():
    flow, store = flow_of()

    with pytest.raises(NotCached):
        flow.decide(intake(LONG, {**COMPLETION, "prefer": "if-available"}))
    assert held(store) == 0


@pytest.mark.parametrize(
    "prefer", ["if-available", "respond-async, If-Available", "if-available; wait=1"]
)
def test_if_available_goes_where_the_prompt_is_cached(prefer):
    flow, _ = flow_of()
    first = flow.decide(intake(LONG, COMPLETION))
    first.ended(Ending.COMPLETE)

    assert flow.decide(intake(LONG, {**COMPLETION, "prefer": prefer})) is not None


def test_other_preferences_change_nothing():
    flow, _ = flow_of()

    assert flow.decide(intake(LONG, {**COMPLETION, "prefer": "respond-async"})) is not None


def test_a_fault_while_placing_gives_everything_back():
    flow, store = flow_of(told=Told(fails=True))

    with pytest.raises(ZeroDivisionError):
        flow.decide(intake())
    assert held(store) == 0


def test_a_status_of_5xx_counts_as_the_endpoints_failure():
    told = Told()
    flow, _ = flow_of(told=told)
    ticket = flow.decide(intake())
    ticket.response_started(ResponseHead(503, {}))
    ticket.ended(Ending.COMPLETE)

    assert told.heard[-1] is Ending.UPSTREAM_ERROR


GRPC = """
  {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig",
   "plugins": [{"type": "vllmgrpc-parser"}, {"type": "openai-parser"}],
   "requestHandler": {"parsers": [
     {"pluginRef": "vllmgrpc-parser"}, {"pluginRef": "openai-parser"}]}}
"""
CALL = framed(GenerateRequest(tokenized={"input_ids": [1, 2]}).SerializeToString())
GENERATE = {":path": "/vllm.grpc.engine.VllmEngine/Generate", "content-type": "application/grpc"}


@pytest.mark.parametrize(
    ("asked", "code", "failures", "ending"),
    [
        pytest.param((CALL, GENERATE), "14", 1, Ending.UPSTREAM_ERROR, id="unavailable"),
        pytest.param((CALL, GENERATE), "13", 1, Ending.UPSTREAM_ERROR, id="internal"),
        pytest.param((CALL, GENERATE), "2", 1, Ending.UPSTREAM_ERROR, id="unknown"),
        pytest.param((CALL, GENERATE), "3", 0, Ending.COMPLETE, id="invalid-argument"),
        pytest.param((CALL, GENERATE), "8", 0, Ending.COMPLETE, id="resource-exhausted"),
        pytest.param((CALL, GENERATE), "12", 0, Ending.UPSTREAM_ERROR, id="unimplemented"),
        pytest.param((CALL, GENERATE), "0", 0, Ending.COMPLETE, id="ok"),
        pytest.param((BODY, {}), "14", 0, Ending.COMPLETE, id="not-a-grpc-call"),
    ],
)
@pytest.mark.parametrize("mode", [ResponseMode.FULL, ResponseMode.WATCH])
def test_a_grpc_call_that_fails_counts_as_a_status_of_5xx(mode, asked, code, failures, ending):
    told = Told()
    flow, store = flow_of(endpoints=[pod(0)], told=told, config=GRPC)
    body, headers = asked
    ticket = flow.decide(intake(body, headers, mode=mode))
    ticket.response_started(ResponseHead(200, {"grpc-status": code}))
    ticket.ended(Ending.COMPLETE)

    assert [row["health"]["failures"] for row in store.describe()] == [failures]
    assert told.heard[-1] is ending


def test_the_load_moves_to_the_endpoint_that_answered():
    flow, store = flow_of()
    ticket = flow.decide(intake())
    other = next(e for e in store.endpoints if e.address != ticket.destination)
    ticket.response_started(ResponseHead(200, {}, served=other.address))
    inflight = {row["address"]: row["inflight"]["requests"] for row in store.describe()}
    ticket.ended(Ending.COMPLETE)

    assert inflight[other.address] == 1
    assert sum(inflight.values()) == 1


def test_behind_a_front_port_the_load_stays_at_the_rank():
    config = """
      {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig",
       "plugins": [{"type": "data-parallel-profile-handler", "parameters": {"primaryPort": 8000}},
                   {"type": "header-based-testing-filter"}]}
    """
    ranks = [pod(0), pod(1, host="10.0.0.1", port=8001)]
    flow, store = flow_of(endpoints=ranks, config=config)
    picked = store.endpoints[1].address
    ticket = flow.decide(intake(headers={"test-epp-endpoint-selection": picked}))
    ticket.response_started(ResponseHead(200, {}, served=ticket.destination))
    inflight = {row["address"]: row["inflight"]["requests"] for row in store.describe()}

    assert ticket.destination == store.endpoints[0].address
    assert ticket.changes.set["x-data-parallel-host-port"] == picked
    assert inflight == {ticket.destination: 0, picked: 1}


REPORTING = """
  {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig",
   "plugins": [
    {"name": "cost", "type": "request-attribute-reporter", "parameters": {"attributes": [
      {"key": {"name": "cost"}, "expression": "usage.prompt_tokens + usage.completion_tokens"}]}},
    {"name": "out", "type": "request-attribute-reporter", "parameters": {"attributes": [
      {"key": {"name": "out"}, "expression": "usage.completion_tokens"}]}}]}
"""
ANSWER = b'{"usage": {"prompt_tokens": 32, "completion_tokens": 10}}'


@pytest.mark.parametrize(
    ("config", "mode", "body", "told"),
    [
        (REPORTING, ResponseMode.FULL, ANSWER, {"envoy.lb": {"cost": 42.0, "out": 10.0}}),
        (REPORTING, ResponseMode.FULL, b"{}", {}),
        (REPORTING, ResponseMode.WATCH, ANSWER, {}),
        (None, ResponseMode.FULL, ANSWER, {}),
    ],
)
def test_reporters_tell_the_gateway_of_a_response_whose_tokens_are_known(config, mode, body, told):
    flow, _ = flow_of(config=config)
    ticket = flow.decide(intake(mode=mode))
    ticket.response_started(ResponseHead(200, {"content-type": "application/json"}))
    ticket.response_chunk(body, True)

    assert ticket.response_metadata() == told


class BrokenReader:
    """A reader of a response that holds the first piece back and fails at the second."""

    usage = None

    def __init__(self):
        self.fed = b""

    def feed(self, data, end):
        self.fed += data
        if self.fed != data:
            raise ZeroDivisionError
        return b""

    def owed(self):
        return self.fed


def test_a_response_reader_that_breaks_is_dropped_and_loses_nothing():
    flow, _ = flow_of()
    ticket = flow.decide(intake())
    ticket.response_started(ResponseHead(200, {"content-type": "application/json"}))
    ticket._body = BrokenReader()

    with structlog.testing.capture_logs() as lines:
        passed = [ticket.response_chunk(piece, False) for piece in (b"a", b"b", b"c")]
    ticket.ended(Ending.COMPLETE)

    assert passed == [b"", b"ab", b"c"]
    assert [line["error"] for line in lines] == ["ZeroDivisionError"]


def test_who_answered_is_shown_only_by_choice():
    flow, _ = flow_of()
    chosen, _ = flow_of(shown=Shown(endpoint=True))
    head = ResponseHead(200, {})
    plain, shown = flow.decide(intake()), chosen.decide(intake())

    assert plain.response_started(head).set == {}
    assert shown.response_started(head).set["x-epp-endpoint"] == shown.destination


@pytest.mark.parametrize(
    ("options", "error"),
    [
        pytest.param({"endpoints": []}, NoEndpoints, id="empty-pool"),
        pytest.param({"gate": Door(no=Saturated("full"))}, Saturated, id="gate-says-no"),
        pytest.param({"shed": Door(no=Overloaded("late"))}, Overloaded, id="loop-is-late"),
    ],
)
def test_a_refusal_is_raised_told_and_holds_nothing(options, error):
    told = Told()
    flow, store = flow_of(told=told, **options)

    with pytest.raises(error):
        flow.decide(intake())
    assert told.heard == [error.code]
    assert held(store) == 0


def test_of_a_body_that_cannot_be_read_the_head_is_told():
    """Else the line of its refusal names neither its path nor the id its client knows."""
    told = Told()
    flow, _ = flow_of(told=told)
    unreadable = intake(b"no json", {"x-request-id": "theirs"})

    with pytest.raises(BadRequest):
        flow.decide(unreadable)
    assert told.heads == [unreadable.head]


def test_a_subset_without_members_of_the_pool_is_no_endpoint():
    flow, _ = flow_of()

    with pytest.raises(NoEndpoints):
        flow.decide(intake(subset=SubsetHint((("10.9.9.9", 8000),))))


def test_a_rewrite_rule_changes_the_body_and_nothing_else():
    flow, _ = flow_of(known={"m": "m-v2"})
    ticket = flow.decide(intake())

    assert ticket.body == BODY.replace(b'"m"', b'"m-v2"')


def test_what_carries_no_model_is_never_rewritten():
    flow, _ = flow_of(known={"": "m-v2"})
    ticket = flow.decide(intake(b"", {":method": "GET", ":path": "/v1/models"}))

    assert (ticket.body, ticket.request.target_model) == (None, "")


def test_an_objective_gives_its_priority():
    flow, _ = flow_of(known={"batch": -1})
    ticket = flow.decide(intake(headers={"x-llm-d-inference-objective": "batch"}))

    assert ticket.request.priority == -1


async def test_a_request_that_waits_is_placed_when_its_turn_comes():
    turn = asyncio.get_running_loop().create_future()
    flow, store = flow_of(gate=Door(wait=turn))
    waiting = asyncio.ensure_future(flow.decide(intake()))
    await asyncio.sleep(0)
    queued = len(flow.waiting)
    turn.set_result(None)
    ticket = await waiting
    ticket.ended(Ending.COMPLETE)

    assert (queued, len(flow.waiting), held(store)) == (1, 0, 0)


async def test_a_client_that_leaves_the_queue_leaves_nothing():
    turn = asyncio.get_running_loop().create_future()
    flow, store = flow_of(gate=Door(wait=turn))
    waiting = asyncio.ensure_future(flow.decide(intake()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert (len(flow.waiting), held(store)) == (0, 0)


def test_two_requests_with_one_client_id_never_meet():
    flow, store = flow_of(endpoints=[pod(0)])
    headers = {"x-request-id": "the same"}
    first, second = (flow.decide(intake(headers=headers)) for _ in range(2))
    first.ended(Ending.COMPLETE)
    left = held(store)
    second.ended(Ending.COMPLETE)

    assert (left, held(store)) == (1, 0)


def test_a_client_that_left_before_any_answer_says_nothing_of_the_endpoint():
    flow, store = flow_of(endpoints=[pod(0), pod(1)])
    for _ in range(5):
        ticket = flow.decide(intake())
        ticket.response_started(ResponseHead(503, {}))
        ticket.ended(Ending.COMPLETE)
    failures = [row["health"]["failures"] for row in store.describe()]
    for _ in range(8):
        flow.decide(intake()).ended(Ending.CLIENT_GONE)

    assert [row["health"]["failures"] for row in store.describe()] == failures


def test_nothing_of_a_body_is_kept_once_it_was_sent():
    flow, _ = flow_of(known={"m": "m-v2"})
    ticket = flow.decide(intake())
    ticket.sent()

    assert ticket.body is None
    assert (ticket.request.prompts, ticket.request.body) == ((), b"")
    assert ticket.request.prompt_tokens > 0
    ticket.ended(Ending.COMPLETE)


@pytest.mark.parametrize(("stream", "gaps"), [(b"true", 2), (b"false", 0)])
def test_the_time_between_pieces_is_told_of_streams_alone(stream, gaps):
    told = Told()
    flow, _ = flow_of(told=told)
    ticket = flow.decide(intake(BODY.replace(b'"m",', b'"m", "stream": ' + stream + b",")))
    ticket.response_started(ResponseHead(200, {}))
    for piece in (b"a", b"b", b"", b"c"):
        ticket.response_chunk(piece, False)
    ticket.ended(Ending.COMPLETE)

    assert told.heard.count("gap") == gaps


class Slow:
    """A producer that writes its fact after so many seconds."""

    def __init__(self, key, seconds, **more):
        self.key, self.seconds = key, seconds
        vars(self).update(more)

    def gather(self, request):
        return self._after(request)

    async def _after(self, request):
        await asyncio.sleep(self.seconds)
        request.facts.put(self.key, "known")


async def test_each_producer_of_facts_has_its_own_patience_and_late_ones_cost_their_facts_alone():
    hasty, patient, plain = Key("hasty"), Key("patient"), Key("plain")
    producers = (
        Slow(hasty, 30.0, patience=0.01),
        Slow(patient, 0.05, patience=30.0),
        Slow(plain, 0.0),
    )
    asked = request()
    await gather(SimpleNamespace(fact_producers=producers), asked)

    assert [asked.facts.get(key) for key in (hasty, patient, plain)] == [None, "known", "known"]


class Tokens:
    """A producer that tells how many tokens a prompt has, at once or a turn of the loop later."""

    def __init__(self, count, *, later):
        self.told, self.later = Tokenized((range(count),), by="render"), later

    def gather(self, request):
        if self.later:
            return self._after(request)
        request.facts.put(TOKENIZED, self.told)
        return None

    async def _after(self, request):
        await asyncio.sleep(0)
        request.facts.put(TOKENIZED, self.told)


class Doorkeeper(Door):
    """A gate that knows a request by its face, as flow control does."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def admit(self, request, pool):
        self.seen.append(request)

    def placed(self, request, tokens):
        self.seen.append(request)


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
async def test_the_tokens_that_were_told_are_the_count_for_all_that_follows(later):
    gate = Doorkeeper()
    flow, _ = flow_of(gate=gate)
    policy = replace(flow.setup.policy, fact_producers=(Tokens(5, later=later),))
    flow.setup = replace(flow.setup, policy=policy)
    placing = flow.decide(intake())
    ticket = await placing if later else placing
    ticket.ended(Ending.COMPLETE)

    assert ticket.request.prompt_tokens == 5
    assert [seen is ticket.request for seen in gate.seen] == [True, True]
    assert len(flow.waiting) == 0
