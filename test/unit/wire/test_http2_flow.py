"""Flow control both ways, back-pressure, and the two steps of a drain."""

from __future__ import annotations

import pytest
from support.http2_peer import Peer, message
from support.wire_echo import Recorded, SilentHandler

from epp.wire import frames
from epp.wire.calls import Cancellation, Status
from epp.wire.frames import ErrorCode, Setting, frame_header
from epp.wire.limits import Limits

SMALL = Limits(stream_window=20_000, connection_window=70_000)


class TestFromAFastPeer:
    @pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_530, 300_000])
    def test_messages_larger_than_every_window_pass(self, size):
        peer = Peer(limits=SMALL).greet()

        assert [len(m) for m in peer.replies(peer.call("/echo.Echo/Unary", bytes(size)))] == [size]

    def test_half_a_window_is_saved_up_before_it_is_announced(self):
        peer = Peer(limits=SMALL).greet()
        call = peer.call("/echo.Echo/Silent", end=False)
        peer.send(call, message(bytes(5_000)))
        quiet = peer.exchange().client.local_flow_control_window(call)
        peer.send(call, message(bytes(6_000)))

        assert quiet == 20_000 - 5_005
        assert peer.exchange().client.local_flow_control_window(call) == 20_000

    def test_a_peer_that_overruns_the_connection_window_is_cut_off(self):
        limits = Limits(stream_window=100_000, connection_window=70_000, max_frame_size=1 << 20)
        peer = Peer(limits=limits).greet()
        call = peer.call("/echo.Echo/Silent", end=False)
        peer.server.receive(_data(call, 70_001), peer.now)

        assert peer.server.fault.code is ErrorCode.FLOW_CONTROL_ERROR

    def test_a_peer_that_overruns_a_stream_window_loses_the_stream(self):
        limits = Limits(stream_window=20_000, connection_window=70_000, max_frame_size=1 << 20)
        peer = Peer(limits=limits).greet()
        call = peer.call("/echo.Echo/Silent", end=False)
        peer.raw(_data(call, 20_001))

        assert peer.resets[call] == ErrorCode.FLOW_CONTROL_ERROR
        assert not peer.server.closing

    def test_a_window_for_the_connection_is_announced_at_once(self):
        peer = Peer(limits=Limits(connection_window=1 << 24)).greet()

        assert peer.client.outbound_flow_control_window == 1 << 24


class TestToASlowPeer:
    def slow(self, window=10, **limits):
        settings = {Setting.INITIAL_WINDOW_SIZE: window}
        peer = Peer(limits=Limits(**limits), client_settings=settings).greet()
        peer.auto_credit = False
        return peer

    def test_nothing_is_sent_beyond_the_window(self):
        peer = self.slow()
        call = peer.call("/echo.Echo/Bidi", b"x" * 100, end=False)

        assert len(peer.data[call]) == 10

    def test_a_call_says_when_it_is_full_and_when_it_has_room(self):
        peer = self.slow(high_water=200)
        call = peer.call("/echo.Echo/Bidi", b"x" * 300, end=False)
        handler = peer.methods["/echo.Echo/Bidi"].last
        assert (handler.call.writable, handler.resumes) == (False, 0)

        peer.client.increment_flow_control_window(250, call)
        peer.exchange()

        assert (handler.call.writable, handler.resumes) == (True, 1)

    def test_the_end_waits_for_what_is_queued(self):
        peer = self.slow()
        call = peer.call("/echo.Echo/Bidi", b"x" * 100)
        assert call not in peer.ended

        peer.client.increment_flow_control_window(1_000, call)
        peer.exchange()

        assert (peer.replies(call), peer.status(call)) == ([b"x" * 100], 0)

    def test_a_window_of_0_that_is_widened_by_settings_lets_data_pass(self):
        peer = self.slow(0)
        call = peer.call("/echo.Echo/Bidi", b"hello")
        peer.client.update_settings({Setting.INITIAL_WINDOW_SIZE: 3})
        assert len(peer.exchange().data[call]) == 3

        peer.client.update_settings({Setting.INITIAL_WINDOW_SIZE: 1_000})

        assert peer.exchange().replies(call) == [b"hello"]

    def test_lanes_share_the_connections_window(self):
        peer = self.slow(65_535)
        calls = [peer.call("/echo.Echo/Bidi", bytes(60_000), end=False) for _ in range(3)]
        for _ in range(20):
            peer.client.increment_flow_control_window(8_000)
            peer.exchange()

        assert all(len(peer.data[call]) == 60_005 for call in calls)

    def test_queued_bytes_have_a_limit(self):
        peer = self.slow(max_queued=10_000)
        call = peer.call("/echo.Echo/Bidi", bytes(10_010), end=False)

        assert peer.resets[call] == ErrorCode.ENHANCE_YOUR_CALM
        assert peer.server.counters.queues_overrun == 1
        assert peer.methods["/echo.Echo/Bidi"].last.cancelled_for is Cancellation.LIMIT
        assert peer.server._outbox.queued == 0

    def test_a_reset_forgets_what_is_queued(self):
        peer = self.slow()
        call = peer.call("/echo.Echo/Bidi", bytes(5_000), end=False)
        peer.client.reset_stream(call)

        assert peer.exchange().server._outbox.queued == 0

    def test_while_the_socket_is_full_data_waits_here(self):
        peer = Peer().greet()
        peer.server.pause()
        call = peer.call("/echo.Echo/Bidi", b"hello")
        assert peer.data[call] == b""

        peer.server.resume()

        assert peer.exchange().replies(call) == [b"hello"]

    def test_trailers_longer_than_a_frame_are_continued(self):
        long = [("x-long", "y" * 40_000)]
        method = Recorded(SilentHandler)
        peer = Peer({"/m": method}).greet()
        call = peer.call("/m", b"x")
        peer.client.max_inbound_header_list_size = 100_000
        peer.client.decoder.max_header_list_size = 100_000
        method.last.call.end(0, "", long)

        assert peer.exchange().heads[call]["x-long"] == "y" * 40_000


class TestDrain:
    def test_the_first_step_still_takes_streams(self):
        peer = Peer().greet()
        peer.server.drain()
        first = peer.server.take()
        late = peer.call("/echo.Echo/Bidi", b"late", end=False)

        assert first.startswith(_goaway(2**31 - 1))
        assert peer.replies(late) == [b"late"]

    def test_the_answer_to_its_ping_brings_the_second_step(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Bidi", b"x", end=False)
        peer.server.drain()
        ping = peer.server.take()[17:]
        peer.server.receive(ping[:4] + b"\x01" + ping[5:], peer.now)

        assert peer.server.take() == _goaway(call)

    def test_so_does_the_time_of_grace(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Bidi", b"x", end=False)
        peer.server.drain()
        peer.server.take()
        peer.server.tick(peer.now + 1.1)

        assert peer.server.take() == _goaway(call)

    def test_after_the_second_step_streams_are_refused_without_blame(self):
        peer = Peer(limits=Limits(max_refused=0)).greet()
        peer.call("/echo.Echo/Bidi", b"x", end=False)
        peer.server.drain()
        peer.server.tick(peer.now + 1.1)
        peer.server.take()

        late = peer.call("/echo.Echo/Bidi", b"x", end=False)

        assert peer.resets[late] == ErrorCode.REFUSED_STREAM
        assert not peer.server.closing

    def test_the_last_answer_closes_the_connection(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Bidi", b"x", end=False)
        peer.server.drain()
        peer.server.tick(peer.now + 1.1)
        peer.server.take()
        assert not peer.server.closing

        peer.client.end_stream(call)
        peer.exchange()

        assert (peer.server.closing, peer.status(call)) == (True, 0)

    def test_a_connection_without_streams_closes_at_the_second_step(self):
        peer = Peer().greet()
        peer.server.drain()
        peer.server.tick(peer.now + 1.1)

        assert peer.server.closing

    def test_at_the_deadline_a_handler_may_end_its_call_well(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Bidi", b"x", end=False)
        peer.server.drain()
        peer.server.take()
        peer.server.stop()
        peer.hear(peer.server.take())

        assert peer.status(call) == 0

    def test_what_a_handler_leaves_open_becomes_unavailable(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Silent", b"x", end=False)
        peer.server.stop()
        peer.hear(peer.server.take())

        assert peer.status(call) == Status.UNAVAILABLE
        assert peer.methods["/echo.Echo/Silent"].last.cancelled_for is Cancellation.STOPPED


def _data(stream: int, size: int) -> bytes:
    return frame_header(size << 8 | frames.DATA, 0, stream) + bytes(size)


def _goaway(last: int) -> bytes:
    return frames.goaway_frame(last, 0)
