"""The response's direction: what passes, what the ticket hears, and how a request ends."""

import pytest
from support.ext_proc import (
    RecordingTicket,
    headers_set,
    modes,
    read,
    request_headers,
    response_body,
    response_headers,
    response_trailers,
)

from epp.domain.headers import HeaderChanges
from epp.domain.response import Ending
from epp.errors import InternalFault, ProtocolFault
from epp.wire.budget import ByteBudget
from epp.wire.exchange import FINISH, WITHDRAW, Decide, Ended, Exchange, ExchangeLimits

FULL = "FULL_DUPLEX_STREAMED"
WATCH = "NONE"


class Placed:
    """An exchange whose request is on its way, and what its response brings about."""

    def __init__(self, response=FULL, ticket=None):
        self.ticket = ticket or RecordingTicket()
        self.machine = Exchange(ExchangeLimits(), ByteBudget(1 << 20), lambda: "id")
        self.machine.receive(modes(request_headers(end=True), "BUFFERED", response))
        self.machine.placed(self.ticket)
        self.endings: list[Ending] = []

    def hears(self, *messages):
        """The replies to `messages`, parsed; endings are noted."""
        return self.does(*(effect for m in messages for effect in self.machine.receive(m)))

    def does(self, *effects):
        self.endings += [effect.ending for effect in effects if isinstance(effect, Ended)]
        return [read(effect) for effect in effects if isinstance(effect, bytes)]


def pieces(replies):
    streamed = (
        reply.response_body.response.body_mutation.streamed_response
        for reply in replies
        if reply.HasField("response_body")
    )
    return [(piece.body, piece.end_of_stream) for piece in streamed]


# -- what passes -----------------------------------------------------------------------------------


def test_headers_pass_untouched_where_nobody_changes_them():
    (reply,) = Placed().hears(response_headers())

    assert reply.HasField("response_headers")
    assert not reply.response_headers.HasField("response")


def test_the_ticket_changes_headers():
    placed = Placed()
    placed.ticket.response_changes = HeaderChanges(
        set={"x-epp-endpoint": "10.0.0.1:8000"}, remove=("server",)
    )

    (reply,) = placed.hears(response_headers())

    mutation = reply.response_headers.response.header_mutation
    assert headers_set(mutation) == {"x-epp-endpoint": "10.0.0.1:8000"}
    assert list(mutation.remove_headers) == ["server"]


def test_the_ticket_hears_status_headers_and_who_served():
    placed = Placed()

    placed.hears(response_headers(429, served="10.0.0.2:8000", server="vllm"))

    (head,) = placed.ticket.heard
    assert (head.status, head.served, head.headers["server"]) == (429, "10.0.0.2:8000", "vllm")


def test_each_chunk_passes_at_once_with_one_end_of_stream():
    replies = Placed().hears(
        response_headers(), response_body(b"a"), response_body(b"b"), response_body(end=True)
    )

    assert pieces(replies) == [(b"a", False), (b"b", False), (b"", True)]


def test_a_large_chunk_passes_in_pieces():
    replies = Placed().hears(response_headers(), response_body(b"x" * 62_001, end=True))

    assert [(len(body), end) for body, end in pieces(replies)] == [(62_000, False), (1, True)]


TOLD = {"envoy.lb": {"x-cost": 42.0}, "mine": {"x": 1.0}}


@pytest.mark.parametrize(
    ("mode", "messages"),
    [
        pytest.param(FULL, [response_body(b"a"), response_body(b"b", end=True)], id="duplex"),
        pytest.param(FULL, [response_body(b"a"), response_body(end=True)], id="empty-end"),
        pytest.param(FULL, [response_body(b"x" * 130_000, end=True)], id="pieces"),
        pytest.param(FULL, [response_body(b"a"), response_trailers()], id="trailers"),
        pytest.param("STREAMED", [response_body(b"a"), response_body(end=True)], id="streamed"),
        pytest.param(
            "STREAMED", [response_body(b"a"), response_trailers()], id="streamed-trailers"
        ),
        pytest.param("BUFFERED", [response_body(b"whole", end=True)], id="buffered"),
    ],
)
def test_the_tickets_last_words_ride_on_the_last_reply(mode, messages):
    placed = Placed(mode)
    placed.ticket.last_words = TOLD

    plain = Placed(mode).hears(response_headers(), *messages)
    *before, last = placed.hears(response_headers(), *messages)

    told = {name: dict(struct) for name, struct in last.dynamic_metadata.items()}
    last.ClearField("dynamic_metadata")
    assert told == TOLD
    assert [*before, last] == plain


def test_nothing_is_said_of_a_body_that_nobody_sees():
    placed = Placed(WATCH)
    placed.ticket.last_words = TOLD

    replies = placed.hears(response_headers(), response_trailers())

    assert not any(reply.HasField("dynamic_metadata") for reply in replies)


def test_what_the_ticket_holds_back_leaves_at_the_end():
    placed = Placed()
    held = bytearray()

    def hold(data, end):
        held.extend(data)
        return bytes(held) if end else b""

    placed.ticket.through = hold

    replies = placed.hears(response_headers(), response_body(b"a"), response_body(b"b", end=True))

    assert pieces(replies) == [(b"ab", True)]


def test_what_the_ticket_holds_back_leaves_before_the_trailers():
    placed = Placed()
    placed.ticket.through = lambda data, end: b"all" if end else b""

    replies = placed.hears(response_headers(), response_body(b"al"), response_trailers())

    assert pieces(replies) == [(b"all", False)]
    assert replies[-1].HasField("response_trailers")


def test_a_second_end_of_stream_is_ignored():
    placed = Placed()

    replies = placed.hears(response_headers(), response_body(end=True), response_body(end=True))

    assert pieces(replies) == [(b"", True)]
    assert placed.endings == [Ending.COMPLETE]


def test_a_buffered_body_is_answered_one_for_one_and_may_be_changed():
    placed = Placed("BUFFERED")
    placed.ticket.through = lambda data, end: b"changed"

    (_, reply) = placed.hears(response_headers(), response_body(b"whole", end=True))

    common = reply.response_body.response
    assert common.body_mutation.body == b"changed"
    assert headers_set(common.header_mutation) == {"content-length": "7"}


def test_a_buffered_body_may_be_emptied():
    placed = Placed("BUFFERED")
    placed.ticket.through = lambda data, end: b""

    (_, reply) = placed.hears(response_headers(), response_body(b"whole", end=True))

    assert reply.response_body.response.body_mutation.clear_body


def test_a_buffered_body_before_trailers_is_whole():
    placed = Placed("BUFFERED")

    placed.hears(response_headers(), response_body(b"whole"), response_trailers())

    assert placed.ticket.heard[1:] == [(b"whole", True)]
    assert placed.endings == [Ending.COMPLETE]


def test_a_streamed_body_that_passes_unchanged_is_not_sent_back():
    placed = Placed("STREAMED")

    replies = placed.hears(response_headers(), response_body(b"a"), response_body(b"b", end=True))

    assert len(replies) == 3
    assert not any(reply.response_body.HasField("response") for reply in replies[1:])
    assert placed.ticket.heard[1:] == [(b"a", False), (b"b", True)]


def test_a_streamed_body_may_be_changed_piece_by_piece():
    placed = Placed("STREAMED")
    placed.ticket.through = lambda data, end: b"all of it" if end else b""

    replies = placed.hears(response_headers(), response_body(b"a"), response_body(b"b", end=True))
    first, last = (reply.response_body.response.body_mutation for reply in replies[1:])

    assert (first.clear_body, last.body) == (True, b"all of it")


@pytest.mark.parametrize(
    ("mode", "may"),
    [(FULL, True), ("BUFFERED", True), ("STREAMED", False), ("BUFFERED_PARTIAL", False)],
)
def test_the_ticket_hears_whether_it_may_hold_bytes_back(mode, may):
    placed = Placed(mode)
    placed.hears(response_headers())

    assert placed.ticket.heard[0].may_hold is may


def test_the_ticket_hears_that_trailers_end_a_streamed_body():
    placed = Placed("STREAMED")

    placed.hears(response_headers(), response_body(b"a"), response_trailers())

    assert placed.ticket.heard[1:] == [(b"a", False), (b"", True)]


@pytest.mark.parametrize("status", ["\u00b2\u00b2\u00b2", "2e2", "-12", ""])
def test_a_status_that_is_no_number_is_none(status):
    placed = Placed()
    placed.hears(response_headers(status))

    assert placed.ticket.heard[0].status == 0


def test_a_streamed_response_is_left_right_after_a_piece():
    placed = Placed("STREAMED")
    placed.hears(response_headers(), response_body(b"a"))
    placed.machine.wind_down()

    effects = placed.machine.receive(response_body(b"b"))

    assert placed.ticket.heard[-1] == (b"b", True)
    assert effects[-1] == FINISH
    assert placed.machine.over


def test_a_duplex_response_is_left_in_a_pause():
    placed = Placed()
    before = placed.machine.wind_down()
    placed.hears(response_headers(), response_body(b"a"))

    assert (before, placed.machine.wind_down()) == (False, True)


def test_a_stop_between_two_pieces_gives_back_what_is_held():
    placed = Placed()
    placed.ticket.through = lambda data, end: b"held" if end else b""
    placed.hears(response_headers(), response_body(b"a"))

    effects = placed.machine.stop()

    assert pieces([read(effects[0])]) == [(b"held", False)]
    assert effects[-1] == FINISH


def test_a_response_on_a_stream_that_placed_nothing_passes():
    machine = Exchange(ExchangeLimits(), ByteBudget(1), lambda: "id")
    messages = (response_headers(), response_body(b"a"), response_trailers())

    replies = [read(effect) for message in messages for effect in machine.receive(message)]

    assert pieces(replies) == [(b"a", False)]
    assert replies[-1].HasField("response_trailers")


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([response_body(b"a")], id="body before headers"),
        pytest.param([response_trailers()], id="trailers before headers"),
        pytest.param([response_headers(), response_headers()], id="headers twice"),
        pytest.param([response_headers(end=True), response_body(b"a")], id="body after the end"),
    ],
)
def test_an_order_that_makes_no_sense_is_a_protocol_fault(messages):
    placed = Placed()
    for message in messages[:-1]:
        placed.hears(message)

    with pytest.raises(ProtocolFault):
        placed.hears(messages[-1])


# -- how it ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "messages", "expected"),
    [
        pytest.param(
            FULL,
            [response_headers(), response_body(end=True)],
            Ending.COMPLETE,
            id="full: body ends",
        ),
        pytest.param(FULL, [response_headers(end=True)], Ending.COMPLETE, id="full: no body"),
        pytest.param(
            FULL, [response_headers(), response_trailers()], Ending.COMPLETE, id="full: trailers"
        ),
        pytest.param(
            FULL,
            [response_headers(503), response_body(end=True)],
            Ending.UPSTREAM_ERROR,
            id="full: 5xx",
        ),
        pytest.param(
            FULL, [response_headers(499), response_body(end=True)], Ending.COMPLETE, id="full: 4xx"
        ),
        pytest.param(WATCH, [response_headers(end=True)], Ending.COMPLETE, id="watch: no body"),
        pytest.param(
            WATCH, [response_headers(), response_trailers()], Ending.COMPLETE, id="watch: trailers"
        ),
        pytest.param(
            WATCH, [response_headers(500, end=True)], Ending.UPSTREAM_ERROR, id="watch: 5xx"
        ),
    ],
)
def test_a_response_that_ends_ends_its_request_at_once(mode, messages, expected):
    placed = Placed(mode)

    placed.hears(*messages)
    placed.does(*placed.machine.lost())

    assert placed.endings == [expected]


@pytest.mark.parametrize(
    ("mode", "messages", "expected"),
    [
        pytest.param(FULL, [], Ending.CLIENT_GONE, id="full: before headers"),
        pytest.param(FULL, [response_headers()], Ending.CLIENT_GONE, id="full: in mid-answer"),
        pytest.param(WATCH, [], Ending.CLIENT_GONE, id="watch: before headers"),
        pytest.param(WATCH, [response_headers()], Ending.COMPLETE, id="watch: after headers"),
        pytest.param(
            WATCH, [response_headers(502)], Ending.UPSTREAM_ERROR, id="watch: after a 5xx"
        ),
        pytest.param(
            "BUFFERED",
            [response_headers(), response_body(b"x")],
            Ending.COMPLETE,
            id="buffered: trailers not sent",
        ),
    ],
)
@pytest.mark.parametrize("way", ["lost", "half_closed"])
def test_a_stream_that_ends_says_what_its_mode_can_tell(mode, messages, expected, way):
    placed = Placed(mode)
    placed.hears(*messages)

    placed.does(*getattr(placed.machine, way)())

    assert placed.endings == [expected]


def test_a_drain_leaves_an_open_response_alone():
    placed = Placed(WATCH)
    placed.hears(response_headers())

    effects = placed.machine.stop()

    assert effects == [Ended(placed.ticket, Ending.DRAINED), FINISH]


def test_a_drain_turns_an_undecided_request_away():
    machine = Exchange(ExchangeLimits(), ByteBudget(1), lambda: "id")
    machine.receive(request_headers(end=True))

    withdraw, answer, finish = machine.stop()

    assert (withdraw, finish) == (WITHDRAW, FINISH)
    assert read(answer).immediate_response.status.code == 503


def test_a_drain_ends_an_idle_stream():
    machine = Exchange(ExchangeLimits(), ByteBudget(1), lambda: "id")

    assert machine.stop() == [FINISH]


def test_a_fault_in_the_response_lets_the_response_go_on():
    placed = Placed()
    placed.hears(response_headers())

    effects = placed.machine.faulted(InternalFault("id"))

    assert effects == [Ended(placed.ticket, Ending.FAULT), FINISH]


# -- a response before the request was placed ------------------------------------------------------


def test_a_response_of_the_gateways_own_withdraws_the_question():
    machine = Exchange(ExchangeLimits(), ByteBudget(1), lambda: "id")
    (decide,) = machine.receive(request_headers(end=True))

    withdraw, reply = machine.receive(response_headers(408))

    assert isinstance(decide, Decide)
    assert withdraw == WITHDRAW
    assert not machine.deciding
    assert read(reply).HasField("response_headers")


def test_half_closing_still_gets_the_answer():
    machine = Exchange(ExchangeLimits(), ByteBudget(1), lambda: "id")
    machine.receive(request_headers(end=True))
    ticket = RecordingTicket()

    assert machine.half_closed() == ()
    reply, ended, finish = machine.placed(ticket)

    assert read(reply).HasField("request_headers")
    assert (ended, finish) == (Ended(ticket, Ending.CLIENT_GONE), FINISH)
