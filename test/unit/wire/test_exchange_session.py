"""The session: decisions awaited or withdrawn, and every fault kept to its own stream."""

import asyncio
import io
import json

import pytest
import structlog
from support.ext_proc import (
    CHAT,
    RecordingPath,
    RecordingTicket,
    modes,
    read,
    request_body,
    request_headers,
    response_body,
    response_headers,
)

from epp.domain.response import Ending
from epp.errors import Evicted, NoEndpoints, TooLarge
from epp.observe.logs import RefusalLog, build_log
from epp.wire.budget import ByteBudget
from epp.wire.calls import Cancellation, Status
from epp.wire.exchange import ExchangeLimits
from epp.wire.session import Process

PROMPT = "a secret that no log may hold"


class NotedCall:
    """A call that keeps what is sent and how it ended."""

    metadata = ()
    deadline = None
    peer = "unix:"
    writable = True

    def __init__(self):
        self.replies = []
        self.ends = []

    def send(self, message):
        assert self.ends == [], "sent after the end"
        self.replies.append(read(message))

    def end(self, status=0, message="", trailing=()):
        self.ends.append(status)


class Stream:
    """One open stream of a `Process` over `path`, with the process's own notes."""

    def __init__(self, path, **options):
        self.told = []
        self.heads = []
        self.log = structlog.testing.CapturingLogger()
        self.process = Process(
            path, budget=ByteBudget(1 << 20), told=self._note, log=self.log, **options
        )
        self.call = NotedCall()
        self.handler = self.process.open(self.call)

    def _note(self, refused, head):
        self.told.append(refused)
        self.heads.append(head)

    def hear(self, *messages):
        for message in messages:
            self.handler.message(message.SerializeToString())

    @property
    def refused(self):
        """Status of the immediate response, or None."""
        answers = [
            r.immediate_response for r in self.call.replies if r.HasField("immediate_response")
        ]
        return answers[0].status.code if answers else None


def raising(error):
    def answer(intake):
        raise error

    return RecordingPath(answer)


async def settle():
    """Let callbacks that are due run."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_request_that_need_not_wait_makes_no_task():
    stream = Stream(RecordingPath())

    stream.hear(request_headers(end=True))  # no loop is running here

    assert [reply.WhichOneof("response") for reply in stream.call.replies] == ["request_headers"]


async def test_a_request_that_waits_is_answered_when_it_is_placed():
    waiting = asyncio.get_running_loop().create_future()
    stream = Stream(RecordingPath(lambda intake: waiting))
    stream.hear(request_headers(), request_body(b"x", end=True))
    assert stream.call.replies == []

    waiting.set_result(RecordingTicket())
    await settle()

    assert len(stream.call.replies) == 2
    assert stream.process.budget.held == 0


async def test_a_coroutine_may_refuse():
    async def decide(intake):
        await asyncio.sleep(0)
        raise NoEndpoints("none")

    stream = Stream(RecordingPath(decide))
    stream.hear(request_headers(end=True))
    await settle()

    assert stream.refused == 503
    assert stream.call.ends == [Status.OK]


async def test_a_reset_while_waiting_cancels_the_decision():
    waiting = asyncio.get_running_loop().create_future()
    stream = Stream(RecordingPath(lambda intake: waiting))
    stream.hear(request_headers(), request_body(b"x", end=True))

    stream.handler.cancelled(Cancellation.RESET)

    assert waiting.cancelled()
    assert stream.process.budget.held == 0
    await settle()
    assert stream.log.calls == []


async def test_a_ticket_that_comes_too_late_is_ended():
    waiting = asyncio.get_running_loop().create_future()
    ticket = RecordingTicket()
    stream = Stream(RecordingPath(lambda intake: waiting))
    stream.hear(request_headers(end=True))

    waiting.set_result(ticket)
    stream.handler.cancelled(Cancellation.RESET)
    await settle()

    assert ticket.endings == [Ending.CLIENT_GONE]
    assert stream.call.replies == []


async def test_a_fault_of_the_gateways_while_a_request_waits_leaves_no_ticket_open():
    waiting = asyncio.get_running_loop().create_future()
    stream = Stream(RecordingPath(lambda intake: waiting))
    stream.hear(request_headers(end=True), response_body(b"before its headers"))
    await settle()

    assert waiting.cancelled()
    assert stream.call.ends == [Status.INVALID_ARGUMENT]


async def test_a_response_that_overtakes_withdraws_the_request():
    waiting = asyncio.get_running_loop().create_future()
    stream = Stream(RecordingPath(lambda intake: waiting))

    stream.hear(request_headers(end=True), response_headers(408))

    assert waiting.cancelled()
    assert [reply.WhichOneof("response") for reply in stream.call.replies] == ["response_headers"]
    await settle()


async def test_a_decision_cancelled_from_elsewhere_is_a_fault_not_a_hang():
    waiting = asyncio.get_running_loop().create_future()
    stream = Stream(RecordingPath(lambda intake: waiting))
    stream.hear(request_headers(end=True))

    waiting.cancel()
    await settle()

    assert stream.refused == 500


def test_a_path_that_breaks_answers_500_with_an_id_and_logs_no_prompt():
    stream = Stream(raising(KeyError(PROMPT)))

    stream.hear(request_headers(), request_body(PROMPT.encode(), end=True))

    answer = stream.call.replies[0].immediate_response
    (fault,) = stream.told
    assert answer.status.code == 500
    assert fault.fault_id in json.loads(answer.body)["error"]["message"]
    assert isinstance(fault.__cause__, KeyError)
    assert PROMPT.encode() not in answer.body
    assert stream.call.ends == [Status.OK]


def test_a_fault_the_client_sees_is_one_line_of_the_log():
    text = io.StringIO()
    log = build_log(text)
    stream = Stream(raising(KeyError(PROMPT)))
    refusals = RefusalLog(log, clock=lambda: 0.0)
    stream.process.log = log
    stream.process.told = lambda refused, head: refusals.refused(None, refused, 0.0, head)

    stream.hear(request_headers(), request_body(PROMPT.encode(), end=True))

    (line,) = [json.loads(line) for line in text.getvalue().splitlines()]
    answer = stream.call.replies[0].immediate_response
    assert line["fault_id"] in json.loads(answer.body)["error"]["message"]
    assert (line["event"], line["error"]) == ("request refused", "KeyError")
    assert "in answer" in line["trace"]
    assert PROMPT not in text.getvalue()


async def test_a_waiting_path_that_breaks_answers_500():
    async def decide(intake):
        await asyncio.sleep(0)
        raise ZeroDivisionError

    stream = Stream(RecordingPath(decide))
    stream.hear(request_headers(end=True))
    await settle()

    assert stream.refused == 500


def test_a_ticket_that_breaks_on_the_response_lets_the_response_go_on():
    path = RecordingPath()
    stream = Stream(path)
    stream.hear(request_headers(end=True))
    path.tickets[0].response_started = lambda head: 1 / 0

    stream.hear(response_headers(200))

    assert stream.refused is None
    assert stream.told == []
    assert [line.kwargs["error"] for line in stream.log.calls] == ["ZeroDivisionError"]
    assert stream.call.ends == [Status.OK]
    assert path.tickets[0].endings == [Ending.FAULT]


def test_a_ticket_that_breaks_while_it_is_placed_is_ended_and_answers_500():
    class Broken(RecordingTicket):
        changes = property(lambda self: 1 / 0, lambda self, value: None)

    ticket = Broken()
    stream = Stream(RecordingPath(lambda intake: ticket))

    stream.hear(request_headers(), request_body(b"x", end=True))

    assert stream.refused == 500
    assert ticket.endings == [Ending.FAULT]
    assert stream.process.budget.held == 0


def test_a_ticket_that_breaks_at_its_end_is_only_logged():
    path = RecordingPath()
    stream = Stream(path)
    stream.hear(request_headers(end=True))
    path.tickets[0].ended = lambda ending: 1 / 0

    stream.hear(response_headers(end=True))

    assert stream.call.replies[-1].HasField("response_headers")
    assert [line.args for line in stream.log.calls] == [("fault",)]


def test_another_stream_is_not_touched_by_a_fault():
    path = RecordingPath()
    stream = Stream(path)
    other_call = NotedCall()
    other = stream.process.open(other_call)
    other.message(request_headers(end=True).SerializeToString())

    stream.handler.message(b"\xff\xff")
    other.message(response_headers(end=True).SerializeToString())

    assert stream.call.ends == [Status.INVALID_ARGUMENT]
    assert other_call.ends == []
    assert path.tickets[0].endings == [Ending.COMPLETE]


@pytest.mark.parametrize(
    ("first", "status"),
    [
        pytest.param(request_body(b"x"), Status.INVALID_ARGUMENT, id="out of order"),
        pytest.param(
            modes(request_headers(), "STREAMED", "NONE"), Status.FAILED_PRECONDITION, id="mode"
        ),
    ],
)
def test_a_protocol_fault_ends_the_stream_with_a_status(first, status):
    stream = Stream(RecordingPath())

    stream.hear(first)

    assert stream.call.ends == [status]
    assert stream.process.open_streams == 0


def test_the_wires_own_refusals_are_told():
    stream = Stream(RecordingPath(), limits=ExchangeLimits(max_body=1))

    stream.hear(request_headers(), request_body(b"xy"), request_body(b"z", end=True))

    assert stream.refused == 413
    assert [type(refused) for refused in stream.told] == [TooLarge]
    assert [(head.method, head.path) for head in stream.heads] == [("POST", CHAT)]


def test_refusals_of_the_path_are_the_paths_to_tell():
    stream = Stream(raising(NoEndpoints("none")))

    stream.hear(request_headers(end=True))

    assert stream.refused == 503
    assert stream.told == []


def test_a_server_that_stops_drains_what_it_must_cut():
    path = RecordingPath()
    stream = Stream(path)
    stream.hear(request_headers(end=True))

    stream.handler.cancelled(Cancellation.STOPPED)

    assert path.tickets[0].endings == [Ending.DRAINED]


async def test_stopping_turns_a_waiting_request_away():
    waiting = asyncio.get_running_loop().create_future()
    stream = Stream(RecordingPath(lambda intake: waiting))
    stream.hear(request_headers(end=True))

    stream.handler.stopping()

    assert stream.refused == 503
    assert waiting.cancelled()
    await settle()


def test_a_placed_request_can_be_taken_back_until_its_response_begins():
    path = RecordingPath()
    stream = Stream(path)
    stream.hear(request_headers(end=True))
    (ticket,) = path.tickets

    assert stream.process.revoke(ticket, Evicted("for others", 7))
    assert stream.refused == 429
    assert ticket.endings == [Ending.EVICTED]
    assert stream.call.ends == [0]
    assert not stream.process.sessions
    assert not stream.process.revoke(ticket, Evicted("for others"))


def test_a_response_that_has_begun_is_not_taken_back():
    path = RecordingPath()
    stream = Stream(path)
    stream.hear(request_headers(end=True), response_headers())
    (ticket,) = path.tickets

    assert not stream.process.revoke(ticket, Evicted("for others"))
    assert (stream.refused, ticket.endings, stream.call.ends) == (None, [], [])
