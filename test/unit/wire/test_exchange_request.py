"""The request's direction: what is answered when, and what the answer carries."""

import pytest
from support.ext_proc import (
    RecordingTicket,
    headers_set,
    modes,
    read,
    request_body,
    request_headers,
    request_trailers,
)

from epp.domain.headers import HeaderChanges
from epp.domain.request import SubsetHint
from epp.domain.response import ResponseMode
from epp.errors import Overloaded, ProtocolFault, Refused, TooLarge
from epp.wire.budget import ByteBudget
from epp.wire.exchange import Decide, Exchange, ExchangeLimits
from epp.wire.modes import UnservedMode

NEW_ID = "00000000-0000-4000-8000-000000000000"
DESTINATION = "x-gateway-destination-endpoint"
BUFFERED = ("BUFFERED", "NONE")


def exchange(limits=None, budget=None):
    return Exchange(limits or ExchangeLimits(), budget or ByteBudget(1 << 30), lambda: NEW_ID)


def ask(*messages, **fields):
    """Feed a new exchange; the exchange, the effects of every message but the last, and the
    intake that the last one asked to decide."""
    machine = exchange(**fields)
    before = [effect for message in messages[:-1] for effect in machine.receive(message)]
    (decide,) = machine.receive(messages[-1])
    assert isinstance(decide, Decide)
    return machine, before, decide.intake


def answers(*messages, ticket=None, **fields):
    """The replies to a request that is placed with `ticket`, parsed."""
    machine, _, _ = ask(*messages, **fields)
    return [read(reply) for reply in machine.placed(ticket or RecordingTicket())]


def pieces(replies):
    """Body pieces among `replies`: bytes and end of stream."""
    streamed = (
        reply.request_body.response.body_mutation.streamed_response
        for reply in replies
        if reply.HasField("request_body")
    )
    return [(piece.body, piece.end_of_stream) for piece in streamed]


def kinds(replies):
    return [reply.WhichOneof("response") for reply in replies]


# -- duplex ----------------------------------------------------------------------------------------


def test_duplex_answers_nothing_before_the_request_is_whole():
    _, before, intake = ask(
        request_headers(), request_body(b"ab"), request_body(b"cd"), request_body(end=True)
    )

    assert before == []
    assert intake.body == b"abcd"


def test_duplex_answers_headers_then_the_body_as_it_came():
    replies = answers(request_headers(), request_body(b"abcd", end=True))

    assert kinds(replies) == ["request_headers", "request_body"]
    assert pieces(replies) == [(b"abcd", True)]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, [0]),
        (61_999, [61_999]),
        (62_000, [62_000]),
        (62_001, [62_000, 1]),
        (125_000, [62_000, 62_000, 1_000]),
    ],
)
def test_a_body_goes_back_in_pieces_with_one_end_of_stream(size, expected):
    replies = answers(request_headers(), request_body(b"x" * size, end=True))

    assert [len(body) for body, _ in pieces(replies)] == expected
    assert [end for _, end in pieces(replies)] == [False] * (len(expected) - 1) + [True]


def test_every_piece_stays_under_64_kib_with_its_envelope():
    machine, _, _ = ask(request_headers(), request_body(b"x" * 200_000, end=True))

    assert max(map(len, machine.placed(RecordingTicket()))) < 64 * 1024


def test_trailers_end_a_body_and_are_answered_after_it():
    replies = answers(request_headers(), request_body(b"abcd"), request_trailers())

    assert kinds(replies) == ["request_headers", "request_body", "request_trailers"]
    assert pieces(replies) == [(b"abcd", False)]


def test_trailers_right_after_the_headers_end_an_empty_body():
    replies = answers(request_headers(), request_trailers())

    assert kinds(replies) == ["request_headers", "request_trailers"]


def test_a_request_without_a_body_is_decided_at_its_headers():
    machine, _, intake = ask(request_headers(method="GET", path="/v1/models", end=True))

    assert intake.body == b""
    assert intake.head.path == "/v1/models"
    assert kinds(map(read, machine.placed(RecordingTicket()))) == ["request_headers"]


def test_a_second_end_of_stream_is_ignored():
    machine, _, _ = ask(request_headers(), request_body(b"abcd", end=True))

    assert machine.receive(request_body(end=True)) == []
    machine.placed(RecordingTicket())
    assert machine.receive(request_body(end=True)) == []


def test_a_changed_body_goes_out_with_its_length():
    ticket = RecordingTicket(body=b"changed")

    replies = answers(request_headers(), request_body(b"abcd", end=True), ticket=ticket)

    mutation = replies[0].request_headers.response.header_mutation
    assert headers_set(mutation)["content-length"] == "7"
    assert pieces(replies) == [(b"changed", True)]


# -- buffered --------------------------------------------------------------------------------------


def test_buffered_lets_the_headers_through_at_once_and_answers_on_the_body():
    machine, before, intake = ask(
        modes(request_headers(), *BUFFERED), request_body(b"abcd", end=True)
    )

    (reply,) = (read(reply) for reply in machine.placed(RecordingTicket()))

    assert kinds(map(read, before)) == ["request_headers"]
    assert not read(before[0]).request_headers.HasField("response")
    assert intake.body == b"abcd"
    common = reply.request_body.response
    assert headers_set(common.header_mutation)[DESTINATION] == "10.0.0.1:8000"
    assert not common.HasField("body_mutation")


def test_buffered_puts_a_changed_body_into_the_answer():
    (reply,) = answers(
        modes(request_headers(), *BUFFERED),
        request_body(b"abcd", end=True),
        ticket=RecordingTicket(body=b"changed"),
    )

    common = reply.request_body.response
    assert common.body_mutation.body == b"changed"
    assert headers_set(common.header_mutation)["content-length"] == "7"


def test_a_buffered_body_is_whole_even_if_trailers_follow():
    machine, _, _ = ask(modes(request_headers(), *BUFFERED), request_body(b"abcd"))
    assert kinds(map(read, machine.placed(RecordingTicket()))) == ["request_body"]

    assert kinds(map(read, machine.receive(request_trailers()))) == ["request_trailers"]


def test_buffered_trailers_without_a_body_carry_the_metadata():
    (reply,) = answers(modes(request_headers(), *BUFFERED), request_trailers())

    assert reply.HasField("request_trailers")
    assert metadata_of(reply) == {DESTINATION: "10.0.0.1:8000"}


def test_buffered_headers_that_leave_first_steer_nothing():
    sent = {DESTINATION: "10.9.9.9:1", "x-prefiller-host-port": "evil", "x-other": "stays"}
    (reply,) = exchange().receive(modes(request_headers(sent), "BUFFERED", "NONE"))

    common = read(reply).request_headers.response
    assert list(common.header_mutation.remove_headers) == [DESTINATION, "x-prefiller-host-port"]
    assert not common.header_mutation.set_headers


def test_buffered_without_a_body_is_decided_at_its_headers():
    (reply,) = answers(modes(request_headers(end=True), *BUFFERED))

    assert headers_set(reply.request_headers.response.header_mutation)[DESTINATION]


# -- other modes -----------------------------------------------------------------------------------


def test_a_body_the_gateway_hides_is_placed_without_it():
    _, _, intake = ask(modes(request_headers(), "NONE", "NONE"))

    assert (intake.body, intake.body_seen) == (b"", False)


@pytest.mark.parametrize("mode", ["STREAMED", "BUFFERED_PARTIAL", "GRPC"])
def test_a_request_mode_that_cannot_be_served_is_named(mode):
    with pytest.raises(UnservedMode, match=f"request_body_mode {mode} "):
        exchange().receive(modes(request_headers(), mode, "NONE"))


def test_a_response_mode_that_cannot_be_served_is_named():
    with pytest.raises(UnservedMode, match="response_body_mode GRPC "):
        exchange().receive(modes(request_headers(), "BUFFERED", "GRPC"))


def test_a_mode_newer_than_we_is_named_by_its_number():
    first = request_headers()
    first.protocol_config.request_body_mode = 17

    with pytest.raises(UnservedMode, match="request_body_mode 17 "):
        exchange().receive(first)


def test_observability_mode_cannot_be_served():
    first = request_headers()
    first.observability_mode = True

    with pytest.raises(UnservedMode, match="observability_mode"):
        exchange().receive(first)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("NONE", ResponseMode.WATCH),
        ("FULL_DUPLEX_STREAMED", ResponseMode.FULL),
        ("BUFFERED", ResponseMode.FULL),
    ],
)
def test_the_path_is_told_how_much_of_the_response_it_will_see(response, expected):
    _, _, intake = ask(modes(request_headers(end=True), "BUFFERED", response))

    assert intake.mode is expected


def test_without_an_announcement_both_directions_are_duplex():
    _, _, intake = ask(request_headers(end=True))

    assert intake.mode is ResponseMode.FULL


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([request_body(b"x")], id="body before headers"),
        pytest.param([request_trailers()], id="trailers before headers"),
        pytest.param([request_headers(), request_headers()], id="headers twice"),
        pytest.param(
            [request_headers(), request_body(b"x", end=True), request_body(b"y")],
            id="body after its end",
        ),
        pytest.param(
            [request_headers(), request_trailers(), request_trailers()], id="trailers twice"
        ),
    ],
)
def test_an_order_that_makes_no_sense_is_a_protocol_fault(messages):
    machine = exchange()
    for message in messages[:-1]:
        machine.receive(message)

    with pytest.raises(ProtocolFault):
        machine.receive(messages[-1])


# -- headers and metadata --------------------------------------------------------------------------


def metadata_of(reply):
    lb = reply.dynamic_metadata.fields["envoy.lb"].struct_value
    return {
        name: dict(value.struct_value) if value.HasField("struct_value") else value.string_value
        for name, value in lb.fields.items()
    }


def test_header_and_metadata_carry_the_same_destinations():
    ticket = RecordingTicket("10.0.0.2:8000,[fd00::1]:8001")

    (reply,) = answers(request_headers(end=True), ticket=ticket)

    mutation = reply.request_headers.response.header_mutation
    assert headers_set(mutation)[DESTINATION] == metadata_of(reply)[DESTINATION]
    assert headers_set(mutation)[DESTINATION] == "10.0.0.2:8000,[fd00::1]:8001"
    assert reply.request_headers.response.clear_route_cache


def test_scores_travel_beside_the_destination():
    scores = {"10.0.0.2:8000": 1.5}
    ticket = RecordingTicket(metadata={"x-gateway-destination-endpoint-scores": scores})

    (reply,) = answers(request_headers(end=True), ticket=ticket)

    assert metadata_of(reply) == {
        DESTINATION: "10.0.0.1:8000",
        "x-gateway-destination-endpoint-scores": scores,
    }


def test_only_what_changes_is_set_and_always_overwritten():
    (reply,) = answers(
        request_headers({DESTINATION: "6.6.6.6:22", "x-request-id": "theirs", "x-a": "1"}, end=True)
    )

    mutation = reply.request_headers.response.header_mutation
    assert headers_set(mutation) == {DESTINATION: "10.0.0.1:8000"}
    assert {option.append_action for option in mutation.set_headers} == {2}
    assert list(mutation.remove_headers) == []


def test_a_request_without_an_id_gets_one_and_the_path_sees_it():
    machine, _, intake = ask(request_headers(end=True))
    (reply,) = (read(reply) for reply in machine.placed(RecordingTicket()))

    mutation = reply.request_headers.response.header_mutation
    assert headers_set(mutation)["x-request-id"] == NEW_ID
    assert intake.head.headers["x-request-id"] == NEW_ID


def test_control_headers_of_the_client_are_removed_where_present():
    (reply,) = answers(
        request_headers(
            {
                "x-gateway-inference-objective": "gold",
                "x-prefiller-host-port": "6.6.6.6:22",
                "x-gateway-destination-endpoint-subset": "6.6.6.6:22",
            },
            end=True,
        )
    )

    assert list(reply.request_headers.response.header_mutation.remove_headers) == [
        "x-gateway-destination-endpoint-subset",
        "x-gateway-inference-objective",
        "x-prefiller-host-port",
    ]


def test_a_control_header_that_the_path_sets_is_overwritten_not_removed():
    ticket = RecordingTicket(
        changes=HeaderChanges(set={"x-prefiller-host-port": "10.0.0.9:8000"}, remove=("x-b",))
    )

    (reply,) = answers(
        request_headers({"x-prefiller-host-port": "6.6.6.6:22"}, end=True), ticket=ticket
    )

    mutation = reply.request_headers.response.header_mutation
    assert headers_set(mutation)["x-prefiller-host-port"] == "10.0.0.9:8000"
    assert list(mutation.remove_headers) == ["x-b"]


def test_nothing_the_path_sets_can_part_header_from_metadata():
    ticket = RecordingTicket(
        changes=HeaderChanges(set={DESTINATION: "10.9.9.9:1"}, remove=(DESTINATION,)),
        metadata={DESTINATION: "10.9.9.9:1"},
    )

    (reply,) = answers(request_headers(end=True), ticket=ticket)

    mutation = reply.request_headers.response.header_mutation
    assert [option.header.key for option in mutation.set_headers].count(DESTINATION) == 1
    assert headers_set(mutation)[DESTINATION] == metadata_of(reply)[DESTINATION] == "10.0.0.1:8000"
    assert list(mutation.remove_headers) == []


def test_header_values_are_read_raw_before_plain_and_the_last_one_wins():
    first = request_headers({"x-a": "raw"}, end=True)
    block = first.request_headers.headers.headers
    block[-1].value = "plain"
    block.add(key="X-Plain", value="only plain")
    block.add(key="x-twice", raw_value=b"1")
    block.add(key="x-twice", raw_value=b"2")
    block.add(key="x-bytes", raw_value=b"\xff")

    _, _, intake = ask(first)

    found = {name: value for name, value in intake.head.headers.items() if name.startswith("x-")}
    assert found == {
        "x-a": "raw",
        "x-plain": "only plain",
        "x-twice": "2",
        "x-bytes": "\ufffd",
        "x-request-id": NEW_ID,
    }


# -- the subset hint -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        pytest.param(
            ["10.0.0.1:8000", "10.0.0.2:8000"], [("10.0.0.1", 8000), ("10.0.0.2", 8000)], id="list"
        ),
        pytest.param(
            "10.0.0.1:8000, 10.0.0.2 ", [("10.0.0.1", 8000), ("10.0.0.2", None)], id="comma string"
        ),
        pytest.param(
            ["10.0.0.1:1,10.0.0.1:2", " 10.0.0.3"],
            [("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.0.3", None)],
            id="list of comma strings",
        ),
        pytest.param(
            ["[fd00::1]:8000", "FD00:0::2", "[::1]"],
            [("fd00::1", 8000), ("fd00::2", None), ("::1", None)],
            id="IPv6",
        ),
        pytest.param([], [], id="empty list"),
        pytest.param("", [], id="empty string"),
        pytest.param(
            ["10.0.0.1:99999", "10.0.0.2:x", 7, None, ":80", "[::1", "10.0.0.4"],
            [("10.0.0.4", None)],
            id="unreadable members dropped",
        ),
        pytest.param(7, [], id="a number allows nothing"),
    ],
)
def test_the_subset_hint_is_read_in_every_form(hint, expected):
    _, _, intake = ask(request_headers(end=True, hint=hint))

    assert intake.subset == SubsetHint(tuple(expected))


def test_without_the_key_there_is_no_hint():
    other = request_headers(end=True)
    other.metadata_context.filter_metadata["envoy.lb.subset_hint"].update({"other": "10.0.0.1"})

    assert ask(other)[2].subset is None
    assert ask(request_headers(end=True))[2].subset is None


@pytest.mark.parametrize(
    "last", [request_body(end=True), request_trailers()], ids=["body", "trailers"]
)
def test_the_hint_may_ride_on_any_message(last):
    _, _, intake = ask(request_headers(hint=["10.0.0.1"]), request_body(b"x"), last)

    assert intake.subset == SubsetHint((("10.0.0.1", None),))


def test_the_last_hint_counts():
    _, _, intake = ask(
        request_headers(hint=["10.0.0.1"]), request_body(b"x", end=True, hint=["10.0.0.2"])
    )

    assert intake.subset == SubsetHint((("10.0.0.2", None),))


def test_a_header_is_never_a_hint():
    named = {"x-gateway-destination-endpoint-subset": "10.0.0.1:8000"}

    assert ask(request_headers(named, end=True))[2].subset is None


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "messages"),
    [
        pytest.param(ExchangeLimits(max_headers=40), [request_headers()], id="headers"),
        pytest.param(
            ExchangeLimits(max_body=3), [request_headers({"content-length": "4"})], id="announced"
        ),
        pytest.param(
            ExchangeLimits(max_body=3),
            [request_headers(), request_body(b"ab"), request_body(b"cd")],
            id="body",
        ),
    ],
)
def test_too_much_is_a_413_that_names_the_limit(limits, messages):
    machine = exchange(limits=limits)

    for message in messages[:-1]:
        machine.receive(message)

    with pytest.raises(TooLarge, match="limit"):
        machine.receive(messages[-1])


@pytest.mark.parametrize("length", ["\u00b2", "9" * 5_000, "-1", "x"], ids=lambda text: text[:3])
def test_a_length_that_is_no_number_says_nothing(length):
    _, _, intake = ask(
        request_headers({"content-length": length}),
        request_body(b"abc", end=True),
        limits=ExchangeLimits(max_body=3),
    )

    assert intake.body == b"abc"


def test_a_body_at_the_limit_passes():
    _, _, intake = ask(
        request_headers(), request_body(b"abc", end=True), limits=ExchangeLimits(max_body=3)
    )

    assert intake.body == b"abc"


def test_held_bytes_are_counted_and_given_back_when_placed():
    budget = ByteBudget(10)
    machine, _, _ = ask(request_headers(), request_body(b"abcd", end=True), budget=budget)
    assert budget.held == 4

    machine.placed(RecordingTicket())

    assert budget.held == 0


def test_over_the_budget_is_a_503_and_harms_nobody_else():
    budget = ByteBudget(10)
    first, _, _ = ask(request_headers(), request_body(b"x" * 8, end=True), budget=budget)
    second = exchange(budget=budget)
    second.receive(request_headers())

    with pytest.raises(Overloaded) as refused:
        second.receive(request_body(b"x" * 8, end=True))
    second.refused(refused.value)

    assert budget.held == 8
    assert len(first.placed(RecordingTicket())) == 2


@pytest.mark.parametrize(
    "end",
    [
        lambda m: m.lost(),
        lambda m: m.stop(),
        lambda m: m.half_closed(),
        lambda m: m.refused(Refused("no")),
    ],
    ids=["lost", "stopped", "half closed", "refused"],
)
def test_every_way_out_gives_back_what_is_held(end):
    budget = ByteBudget(10)
    machine = exchange(budget=budget)
    machine.receive(request_headers())
    machine.receive(request_body(b"abcd"))

    end(machine)

    assert budget.held == 0
    assert machine.over
