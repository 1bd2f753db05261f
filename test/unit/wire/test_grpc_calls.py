"""gRPC over a connection in memory: messages, statuses, metadata, deadlines."""

from __future__ import annotations

import base64

import pytest
from support.http2_peer import Peer, grpc_head, message
from support.wire_echo import EchoHandler, Recorded, SilentHandler

from epp.wire.calls import CallError, Cancellation, Status, UnaryMethod
from epp.wire.grpc_heads import percent_encoded
from epp.wire.limits import Limits


def served(path="/echo.Echo/Unary", *messages, **extra):
    peer = Peer().greet()
    return peer, peer.call(path, *(messages or (b"",)), **extra)


class TestAnswers:
    def test_a_unary_call_gets_its_reply_and_status_0(self):
        peer, call = served("/echo.Echo/Unary", b"hello")

        assert (peer.replies(call), peer.status(call)) == ([b"hello"], 0)

    def test_a_bidi_call_is_answered_message_by_message(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Bidi", b"one", b"two", end=False)

        assert peer.replies(call) == [b"one", b"two"]
        assert call not in peer.ended

    def test_a_streaming_answer_keeps_its_order(self):
        peer, call = served("/echo.Echo/Repeat", bytes((5,)) + b"x")

        assert peer.replies(call) == [bytes((5,)) + b"x"] * 5

    def test_an_answer_without_message_is_trailers_only(self):
        peer, call = served("/echo.Echo/Refuse")

        assert peer.status(call) == Status.PERMISSION_DENIED
        assert call not in peer.trailers

    def test_the_status_message_is_percent_encoded(self):
        peer, call = served("/echo.Echo/Refuse")

        assert peer.heads[call]["grpc-message"] == "not today: 100%25 n%C3%A9e"

    def test_an_unknown_method_is_unimplemented(self):
        peer, call = served("/echo.Echo/Nothing")

        assert peer.status(call) == Status.UNIMPLEMENTED

    def test_a_reply_before_the_half_close_ends_with_a_reset_without_error(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Nothing", end=False)

        assert (peer.status(call), peer.resets[call]) == (Status.UNIMPLEMENTED, 0)

    def test_everything_one_read_causes_leaves_in_one_write(self):
        peer = Peer().greet()
        for _ in range(3):
            stream = peer.client.get_next_available_stream_id()
            peer.client.send_headers(stream, grpc_head("/echo.Echo/Unary"))
            peer.client.send_data(stream, message(b"x"), end_stream=True)
        peer.server.receive(peer.client.data_to_send(), peer.now)

        peer.hear(peer.server.take())

        assert peer.ended == {1, 3, 5}
        assert peer.wakes == 0

    def test_an_answer_given_later_wakes_the_shell_once(self):
        method = Recorded(SilentHandler)
        peer = Peer({"/m": method}).greet()
        call = peer.call("/m", b"x")

        method.last.call.send(b"1")
        method.last.call.send(b"2")
        method.last.call.end()

        assert peer.wakes == 1
        assert peer.exchange().replies(call) == [b"1", b"2"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "status"),
        [
            pytest.param({"content-type": "application/json"}, "415", id="another content type"),
            pytest.param({"content-type": "application/grpcish"}, "415", id="almost gRPC"),
            pytest.param({":method": "PUT"}, "405", id="another method"),
        ],
    )
    def test_what_is_not_grpc_gets_an_http_status(self, change, status):
        peer = Peer().greet()
        head = [(name, change.get(name, value)) for name, value in grpc_head("/echo.Echo/Unary")]
        peer.client.send_headers(1, head, end_stream=True)

        assert peer.exchange().heads[1][":status"] == status
        assert 1 in peer.ended

    @pytest.mark.parametrize("kind", ["application/grpc+proto", "application/grpc;v=1"])
    def test_subtypes_and_parameters_are_grpc(self, kind):
        peer = Peer().greet()
        head = [(n, kind if n == "content-type" else v) for n, v in grpc_head("/echo.Echo/Unary")]
        peer.client.send_headers(1, head)
        peer.client.send_data(1, message(b"x"), end_stream=True)

        assert peer.exchange().status(1) == 0

    def test_an_encoding_other_than_identity_is_unimplemented_and_says_what_is(self):
        peer, call = served(grpc_encoding="gzip")

        assert peer.status(call) == Status.UNIMPLEMENTED
        assert peer.heads[call]["grpc-accept-encoding"] == "identity"

    def test_a_compressed_message_is_unimplemented_and_says_what_is(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Bidi", end=False)
        peer.send(call, message(b"zzz", flag=1))

        assert peer.exchange().status(call) == Status.UNIMPLEMENTED
        assert peer.heads[call]["grpc-accept-encoding"] == "identity"

    def test_an_unknown_flag_is_an_internal_error(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Bidi", end=False)
        peer.send(call, message(b"zzz", flag=7))

        assert peer.exchange().status(call) == Status.INTERNAL

    @pytest.mark.parametrize("timeout", ["", "S", "123456789S", "1X", "-1S", "1.5S"])
    def test_an_unreadable_timeout_is_an_internal_error(self, timeout):
        peer, call = served(grpc_timeout=timeout)

        assert peer.status(call) == Status.INTERNAL

    def test_binary_metadata_that_is_no_base64_is_an_internal_error(self):
        peer, call = served(x_bin="***")

        assert peer.status(call) == Status.INTERNAL

    def test_a_request_that_ends_inside_a_message_is_an_internal_error(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Bidi", end=False)
        peer.send(call, message(b"hello")[:-1])
        peer.client.end_stream(call)

        assert peer.exchange().status(call) == Status.INTERNAL
        assert peer.methods["/echo.Echo/Bidi"].last.cancelled_for is Cancellation.RESET

    @pytest.mark.parametrize("messages", [(), (b"1", b"2")], ids=["none", "two"])
    def test_a_unary_call_takes_exactly_one_message(self, messages):
        peer = Peer().greet()

        assert peer.status(peer.call("/echo.Echo/Unary", *messages)) == Status.INTERNAL


class TestSizes:
    limits = Limits(max_message_size=100_000, max_assembling=150_000)

    def test_a_message_of_the_limit_passes(self):
        peer = Peer(limits=self.limits).greet()
        call = peer.call("/echo.Echo/Unary", b"x" * 100_000)

        assert [len(reply) for reply in peer.replies(call)] == [100_000]

    def test_a_message_over_the_limit_is_resource_exhausted(self):
        peer = Peer(limits=self.limits).greet()
        call = peer.call("/echo.Echo/Bidi", end=False)
        peer.send(call, message(b"x" * 100_001)[:10])

        assert peer.exchange().status(call) == Status.RESOURCE_EXHAUSTED
        assert peer.methods["/echo.Echo/Bidi"].last.cancelled_for is Cancellation.LIMIT
        assert peer.server.counters.messages_too_large == 1

    def test_unfinished_messages_share_a_limit(self):
        peer = Peer(limits=self.limits).greet()
        calls = [peer.call("/echo.Echo/Bidi", end=False) for _ in range(2)]
        for call in calls:
            peer.send(call, message(b"x" * 100_000)[:80_000])
        peer.exchange()

        assert peer.status(calls[1]) == Status.RESOURCE_EXHAUSTED
        assert peer.server.assembling == 80_000 - 5

    def test_memory_of_unfinished_messages_is_given_back(self):
        peer = Peer(limits=self.limits).greet()
        done, cut = (peer.call("/echo.Echo/Bidi", end=False) for _ in range(2))
        peer.send(done, message(b"x" * 50_000))
        peer.send(cut, message(b"x" * 50_000)[:20_000])
        peer.client.reset_stream(cut)

        assert peer.exchange().server.assembling == 0


class TestMetadata:
    def test_a_handler_sees_text_and_bytes_but_no_protocol_fields(self):
        method = Recorded(EchoHandler)
        peer = Peer({"/m": method}).greet()
        binary = base64.b64encode(b"\x00\x01").decode().rstrip("=")
        peer.call("/m", x_text="né", x_bin=f"{binary},{binary}", grpc_timeout="1S")

        assert method.last.call.metadata == (
            ("x-text", "né"),
            ("x-bin", b"\x00\x01"),
            ("x-bin", b"\x00\x01"),
        )

    def test_trailing_metadata_arrives_with_the_status(self):
        def answer(data, call):
            call.end(0, "", [("x-a", "b"), ("x-bin", b"\xff\xfe")])
            return b""

        peer = Peer({"/m": UnaryMethod(answer)}).greet()
        call = peer.call("/m", b"")

        assert peer.heads[call]["x-a"] == "b"
        assert peer.heads[call]["x-bin"] == base64.b64encode(b"\xff\xfe").decode().rstrip("=")

    @pytest.mark.parametrize(
        "pair",
        [("Upper", "x"), ("a b", "x"), ("grpc-x", "x"), ("x", "né"), ("x", "a\nb"), ("x-bin", "s")],
        ids=str,
    )
    def test_metadata_that_cannot_be_written_is_the_handlers_fault(self, pair):
        method = UnaryMethod(lambda data, call: call.end(0, "", [pair]) or b"")
        peer = Peer({"/m": method}).greet()
        call = peer.call("/m", b"")

        assert peer.status(call) == Status.UNKNOWN
        assert isinstance(peer.faults[0], ValueError)

    @pytest.mark.parametrize(
        ("text", "wire"),
        [
            ("plain", b"plain"),
            ("50%", b"50%25"),
            ("é", b"%C3%A9"),
            ("a\n", b"a%0A"),
            (" x ", b"%20x%20"),
        ],
    )
    def test_percent_encoding(self, text, wire):
        assert percent_encoded(text) == wire


class TestEnds:
    def test_a_deadline_ends_the_call_on_both_sides(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Silent", b"x", grpc_timeout="250m")
        silent = peer.methods["/echo.Echo/Silent"].last
        assert silent.call.deadline == peer.now + 0.25

        peer.later(0.3)

        assert peer.status(call) == Status.DEADLINE_EXCEEDED
        assert silent.cancelled_for is Cancellation.DEADLINE
        assert peer.server.counters.deadlines == 1

    def test_a_client_reset_cancels_the_handler(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Silent", b"x", end=False)
        peer.client.reset_stream(call, 8)
        peer.exchange()

        assert peer.methods["/echo.Echo/Silent"].last.cancelled_for is Cancellation.RESET

    def test_a_lost_connection_cancels_the_handler(self):
        peer = Peer().greet()
        peer.call("/echo.Echo/Silent", b"x", end=False)
        peer.server.lost()

        assert peer.methods["/echo.Echo/Silent"].last.cancelled_for is Cancellation.CONNECTION_LOST

    def test_after_the_end_a_call_does_nothing_more(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Bidi", b"x")
        over = peer.methods["/echo.Echo/Bidi"].last.call
        over.send(b"late")
        over.end(13, "late")

        assert peer.exchange().replies(call) == [b"x"]
        assert not over.writable

    def test_a_handlers_exception_ends_its_call_alone(self):
        peer = Peer().greet()
        other = peer.call("/echo.Echo/Bidi", b"x", end=False)
        call = peer.call("/echo.Echo/Fail", b"x", end=False)

        assert peer.status(call) == Status.UNKNOWN
        assert isinstance(peer.faults[0], ZeroDivisionError)
        assert peer.methods["/echo.Echo/Fail"].last.cancelled_for is Cancellation.FAULT
        assert other not in peer.resets

    def test_a_method_may_refuse_to_open(self):
        class Closed:
            def open(self, call):
                raise CallError(Status.UNAVAILABLE, "closed")

        peer = Peer({"/m": Closed()}).greet()

        assert peer.status(peer.call("/m", b"x")) == Status.UNAVAILABLE

    def test_a_handler_that_is_cut_while_it_opens_hears_of_it(self):
        class Eager(EchoHandler):
            def __init__(self, call):
                super().__init__(call)
                call.send(bytes(100_000))

        method = Recorded(Eager)
        peer = Peer({"/m": method}, limits=Limits(max_queued=1_000)).greet()
        peer.call("/m", end=False)

        assert method.last.cancelled_for is Cancellation.LIMIT

    def test_envoys_way_to_end_a_stream_is_no_attack(self):
        peer = Peer(limits=Limits(max_resets=0, max_unknown=0)).greet()
        for _ in range(64):
            call = peer.call("/echo.Echo/Bidi", b"x")
            peer.raw(b"\x00\x00\x04\x03\x00" + call.to_bytes(4, "big") + b"\x00\x00\x00\x02")

        assert not peer.server.closing
        assert peer.server.counters.calls_ok == 64
