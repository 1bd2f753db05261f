"""Any order of messages: legal replies or a clean fault, everything given back, never a hang."""

from hypothesis import given, settings
from hypothesis import strategies as st
from support.envoy_rules import BUFFERED, DUPLEX, NONE, STREAMED, EnvoyStream
from support.ext_proc import (
    RecordingTicket,
    modes,
    read,
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
    response_trailers,
)

from epp.errors import NoEndpoints, ProtocolFault, Refused
from epp.wire.budget import ByteBudget
from epp.wire.exchange import WITHDRAW, Decide, Ended, Exchange, ExchangeLimits, Finish

BODIES = st.sampled_from([b"", b"x", b"y" * 1_000, b"z" * 70_000])
ENDS = st.booleans()
REQUEST_MODES = st.sampled_from([DUPLEX, BUFFERED, NONE])
RESPONSE_MODES = st.sampled_from([DUPLEX, BUFFERED, STREAMED, NONE])
ANSWERS = st.sampled_from(["placed", "changed", "refused"])

REQUEST = st.one_of(
    st.builds(lambda end: request_headers(end=end), ENDS),
    st.builds(lambda data, end: request_body(data, end=end), BODIES, ENDS),
    st.builds(request_trailers),
)
RESPONSE = st.one_of(
    st.builds(lambda end: response_headers(end=end), ENDS),
    st.builds(lambda data, end: response_body(data, end=end), BODIES, ENDS),
    st.builds(response_trailers),
)
DRIVER = st.sampled_from(["decided", "half_closed", "stop", "lost", "faulted"])


class Driven:
    """An exchange under a driver that answers questions, with Envoy's rules held beside it."""

    def __init__(self, request_mode, response_mode, answer):
        self.budget = ByteBudget(150_000)
        self.machine = Exchange(ExchangeLimits(max_body=100_000), self.budget, lambda: "id")
        self.envoy = EnvoyStream(request_mode, response_mode)
        self.announced = (request_mode, response_mode)
        self.answer = answer
        self.tickets: list[RecordingTicket] = []
        self.ended: list[object] = []
        self.asking = False
        self.finished = False
        self.faulted = False
        self.first = True

    def send(self, message):
        if self.first:
            modes(message, *self.announced)
            self.first = False
        if not (self.finished or self.faulted):
            self.envoy.sent(message)
        try:
            self.take(self.machine.receive(message))
        except Refused as refused:
            self.take(self.machine.refused(refused))
        except ProtocolFault:
            self.faulted = True
            self.take(self.machine.lost())

    def drive(self, step):
        if self.finished or self.faulted or self.machine.over:
            return
        if step == "decided":
            self.decide()
        elif step == "faulted":
            self.take(self.machine.faulted(NoEndpoints("broken")))
        elif step == "lost":
            self.faulted = True
            self.take(self.machine.lost())
        else:
            self.take(getattr(self.machine, step)())

    def decide(self):
        if not self.asking:
            return
        self.asking = False
        if self.answer == "refused":
            self.take(self.machine.refused(NoEndpoints("none")))
            return
        ticket = RecordingTicket()
        if self.answer == "changed":
            ticket.body = b"c" * 130_000
            ticket.through = lambda data, end: b"d" * 130_000 if end else b""
        self.tickets.append(ticket)
        self.take(self.machine.placed(self.tickets[-1]))

    def take(self, effects):
        for effect in effects:
            assert not self.finished, "something after the end of the stream"
            if isinstance(effect, bytes):
                assert not self.faulted, "a reply on a stream that is gone"
                assert (
                    len(effect) < 64 * 1024
                    or self.announced[0] == BUFFERED
                    or self.announced[1] in (BUFFERED, STREAMED)
                )
                self.envoy.answered(read(effect))
            elif isinstance(effect, Decide):
                assert not self.asking, "asked twice"
                self.asking = True
            elif isinstance(effect, Ended):
                self.ended.append(effect.ticket)
            elif effect == WITHDRAW:
                assert self.asking, "withdrew what was not asked"
                self.asking = False
            else:
                assert isinstance(effect, Finish)
                self.finished = True

    def close(self):
        """The stream ends for good: everything must have been given back, each ticket once."""
        if not (self.finished or self.faulted):
            self.take(self.machine.lost())
        assert self.machine.over
        assert not self.asking, "a question that nobody will hear the answer to"
        assert self.budget.held == 0
        assert self.ended == self.tickets


def check_routes(driven):
    """Header and metadata never disagree, and a placed request is routed exactly once."""
    assert all(metadata == header for metadata, header in driven.envoy.routed)
    assert len(driven.envoy.routed) == len(driven.tickets)


@settings(max_examples=400)
@given(
    request_mode=REQUEST_MODES,
    response_mode=RESPONSE_MODES,
    answer=ANSWERS,
    steps=st.lists(st.one_of(REQUEST, RESPONSE, DRIVER), max_size=12),
)
def test_any_order_gets_legal_replies_or_a_clean_fault(request_mode, response_mode, answer, steps):
    driven = Driven(request_mode, response_mode, answer)
    tolerated = False

    for step in steps:
        if isinstance(step, str):
            driven.drive(step)
            continue
        tolerated = tolerated or out_of_envoys_order(driven.envoy, step)
        if tolerated:
            survive(driven, step)
            break
        driven.send(step)

    driven.close()


def out_of_envoys_order(envoy, message):
    """A message that no Envoy sends at this point: only survival is asked for, no legal reply."""
    kind = message.WhichOneof("request")
    direction = envoy.request if kind.startswith("request") else envoy.response
    if kind.endswith("headers"):
        return direction.headers_owed or direction.headers_answered
    unheard = not (direction.headers_owed or direction.headers_answered)
    whole = direction.mode == BUFFERED and direction.body_sent and kind.endswith("body")
    hidden = direction.mode == NONE and kind.endswith("body")
    ended = direction.body_end_sent or direction.trailers_sent
    return unheard or whole or hidden or ended


def survive(driven, message):
    """Replies are not judged; the exchange must still end cleanly."""
    if driven.first:
        modes(message, *driven.announced)
    try:
        effects = driven.machine.receive(message)
    except Refused as refused:
        effects = driven.machine.refused(refused)
    except ProtocolFault:
        effects = driven.machine.lost()
    driven.ended += [effect.ticket for effect in effects if isinstance(effect, Ended)]
    driven.asking = (driven.asking and WITHDRAW not in effects) or any(
        isinstance(effect, Decide) for effect in effects
    )
    driven.finished = driven.machine.over


def well_formed(direction_headers, body, trailers):
    """Messages of one direction as Envoy sends them: headers, pieces, one end."""
    return st.builds(
        lambda pieces, how: [
            direction_headers(end=how == "headers"),
            *([] if how == "headers" else [body(piece) for piece in pieces]),
            *([body(end=True)] if how == "body" else []),
            *([trailers()] if how == "trailers" else []),
        ],
        st.lists(BODIES, max_size=3),
        st.sampled_from(["headers", "body", "trailers"]),
    )


def buffered(messages, body):
    """The same request as a gateway in buffered mode sends it: the body in one message."""
    head, *rest = messages
    parts = [message for message in rest if message.WhichOneof("request").endswith("_body")]
    others = [message for message in rest if not message.WhichOneof("request").endswith("_body")]
    if not parts:
        return messages
    kind = parts[0].WhichOneof("request")
    whole = b"".join(getattr(part, kind).body for part in parts)
    return [head, body(whole, end=not others), *others]


def as_sent(messages, mode, body):
    """Messages of one direction in the form its mode gives them."""
    if mode == NONE:
        return [m for m in messages if not m.WhichOneof("request").endswith("_body")]
    return buffered(messages, body) if mode == BUFFERED else messages


@settings(max_examples=400)
@given(
    request_mode=REQUEST_MODES,
    response_mode=RESPONSE_MODES,
    answer=ANSWERS,
    request=well_formed(request_headers, request_body, request_trailers),
    response=well_formed(response_headers, response_body, response_trailers),
)
def test_every_well_formed_exchange_is_answered_to_its_end(
    request_mode, response_mode, answer, request, response
):
    driven = Driven(request_mode, response_mode, answer)

    for message in as_sent(request, request_mode, request_body):
        driven.send(message)
        driven.decide()

    assert driven.envoy.refused or driven.envoy.request.settled
    assert not driven.faulted
    if driven.tickets:
        for message in as_sent(response, response_mode, response_body):
            driven.send(message)
        assert driven.envoy.response.settled
        assert not driven.faulted
        check_routes(driven)
    driven.close()


@settings(max_examples=100)
@given(
    pieces=st.lists(BODIES, max_size=4),
    trailers=st.booleans(),
    mode=st.sampled_from([DUPLEX, BUFFERED]),
)
def test_no_byte_of_a_body_is_lost_or_added(pieces, trailers, mode):
    driven = Driven(mode, NONE, "placed")
    machine = driven.machine
    whole = b"".join(pieces)
    parts = [request_body(piece) for piece in pieces]
    last = [request_trailers()] if trailers else [request_body(end=True)]
    effects = []

    try:
        for message in as_sent([request_headers(), *parts, *last], mode, request_body):
            if driven.first:
                modes(message, mode, NONE)
                driven.first = False
            effects += machine.receive(message)
    except Refused:
        assert len(whole) > 100_000
        return

    (decide,) = (effect for effect in effects if isinstance(effect, Decide))
    replies = [read(reply) for reply in machine.placed(RecordingTicket())]
    assert decide.intake.body == whole
    if mode == DUPLEX:
        back = (reply.request_body.response.body_mutation.streamed_response for reply in replies)
        assert b"".join(piece.body for piece in back) == whole
