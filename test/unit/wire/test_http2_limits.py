"""Every hostile behaviour meets its limit, its counter and the right error."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hpack import Encoder
from support.http2_peer import Peer, grpc_head, message

from epp.wire import frames
from epp.wire.calls import Cancellation, Status
from epp.wire.frames import ErrorCode, Setting, frame_header
from epp.wire.headers import encoded
from epp.wire.limits import Counters, Limits
from epp.wire.meters import Rate

TIGHT = Limits(
    max_streams=4,
    max_resets=3,
    max_refused=3,
    max_pings=3,
    max_settings=5,
    max_empty_data=3,
    max_priorities=3,
    max_window_updates=3,
    max_unknown=3,
    max_continuations=2,
    max_header_block=4_000,
    max_header_list=2_000,
    high_water=1_000,
    max_queued=200_000,
)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frame_header(len(payload) << 8 | kind, flags, stream) + payload


def word(value: int) -> bytes:
    return value.to_bytes(4, "big")


def block(path: str = "/echo.Echo/Silent", **extra: str) -> bytes:
    """A header block without reference to any table."""
    return encoded([(n.encode(), v.encode()) for n, v in grpc_head(path, **extra)])


def opening(stream: int, flags: int = frames.END_HEADERS, data: bytes | None = None) -> bytes:
    return frame(frames.HEADERS, flags, stream, block() if data is None else data)


def reset(stream: int) -> bytes:
    return frame(frames.RST_STREAM, 0, stream, word(8))


STREAMS = b"".join(opening(n) for n in range(1, 18, 2))
UPDATES = opening(1) + frame(8, 0, 1, word(1)) * 4
PROMISES_5 = block(content_length="5")
PROMISES_1 = block(content_length="1")
RESETS = b"".join(opening(n) + reset(n) for n in range(1, 9, 2))
CAUSED_RESETS = b"".join(
    opening(n) + frame(frames.WINDOW_UPDATE, 0, n, word(0)) for n in range(1, 9, 2)
)
LATE = opening(1) + reset(1)


@dataclass(frozen=True)
class Attack:
    name: str
    data: bytes
    code: ErrorCode
    counter: str = "protocol_faults"


CALM, WRONG = ErrorCode.ENHANCE_YOUR_CALM, ErrorCode.PROTOCOL_ERROR
TABLE = ErrorCode.COMPRESSION_ERROR
SIZE, FLOW = ErrorCode.FRAME_SIZE_ERROR, ErrorCode.FLOW_CONTROL_ERROR

FLOODS = [
    Attack("rapid reset", RESETS, CALM, "unanswered_resets"),
    Attack("resets provoked by faults", CAUSED_RESETS, CALM, "unanswered_resets"),
    Attack("streams at once", STREAMS, CALM, "streams_refused"),
    Attack("pings", frame(6, 0, 0, bytes(8)) * 4, CALM, "pings_in"),
    Attack("ping answers", frame(6, 1, 0, bytes(8)) * 4, CALM, "pings_in"),
    Attack("settings", frame(4, 0, 0) * 5, CALM, "settings_in"),
    Attack("settings answers", frame(4, 1, 0) * 5, CALM, "settings_in"),
    Attack("empty data", opening(1) + frame(0, 0, 1) * 4, CALM, "empty_data_in"),
    Attack("only padding", opening(1) + frame(0, 8, 1, b"\x03\0\0\0") * 4, CALM, "empty_data_in"),
    Attack("priorities", frame(2, 0, 1, bytes(5)) * 4, CALM, "priorities_in"),
    Attack("window updates", frame(8, 0, 0, word(1)) * 4, CALM, "window_updates_in"),
    Attack("window updates of a stream", UPDATES, CALM, "window_updates_in"),
    Attack("unknown frames", frame(99, 0, 0, b"x") * 4, CALM, "unknown_in"),
    Attack("goaways", frame(7, 0, 0, bytes(8)) * 4, CALM, "unknown_in"),
    Attack("resets of a closed stream", LATE + reset(1) * 4, CALM, "unknown_in"),
    Attack("continuations", opening(1, 0) + frame(9, 0, 1) * 3, CALM, "floods"),
    Attack("header block", opening(1, 0) + frame(9, 0, 1, bytes(4_000)), CALM, "floods"),
]  # fmt: skip

ERRORS = [
    Attack("data on stream 0", frame(0, 0, 0, b"x"), WRONG),
    Attack("data on an idle stream", frame(0, 0, 1, b"x"), WRONG),
    Attack("data on an even stream", frame(0, 0, 2, b"x"), WRONG),
    Attack("headers on stream 0", opening(0), WRONG),
    Attack("headers on an even stream", opening(2), WRONG),
    Attack("a stream id that falls", opening(5) + opening(3), WRONG),
    Attack("headers after the end", opening(1) + reset(1) + opening(1), ErrorCode.STREAM_CLOSED),
    Attack("headers without their priority", frame(1, 0x24, 1, b"abc"), SIZE),
    Attack("a padded frame without pad length", opening(1) + frame(0, 8, 1), SIZE),
    Attack("more padding than frame", opening(1) + frame(0, 8, 1, b"\x09abc"), WRONG),
    Attack("priority on stream 0", frame(2, 0, 0, bytes(5)), WRONG),
    Attack("reset of an idle stream", reset(1), WRONG),
    Attack("reset of a wrong size", opening(1) + frame(3, 0, 1, b"abc"), SIZE),
    Attack("settings on a stream", frame(4, 0, 1), WRONG),
    Attack("settings of a wrong size", frame(4, 0, 0, b"abc"), SIZE),
    Attack("a settings answer with a payload", frame(4, 1, 0, bytes(6)), SIZE),
    Attack("push that is neither 0 nor 1", frame(4, 0, 0, b"\0\2" + word(2)), WRONG),
    Attack("a window over 2^31-1", frame(4, 0, 0, b"\0\4" + word(1 << 31)), FLOW),
    Attack("a frame size too small", frame(4, 0, 0, b"\0\5" + word(16_383)), WRONG),
    Attack("a frame size too large", frame(4, 0, 0, b"\0\5" + word(1 << 24)), WRONG),
    Attack("a push promise", frame(5, 0, 1, bytes(8)), WRONG),
    Attack("a ping of a wrong size", frame(6, 0, 0, bytes(7)), SIZE),
    Attack("a ping on a stream", frame(6, 0, 1, bytes(8)), WRONG),
    Attack("a goaway on a stream", frame(7, 0, 1, bytes(8)), WRONG),
    Attack("a goaway of a wrong size", frame(7, 0, 0, bytes(7)), SIZE),
    Attack("a window update of a wrong size", frame(8, 0, 0, bytes(3)), SIZE),
    Attack("a window update of 0", frame(8, 0, 0, word(0)), WRONG),
    Attack("a window update that overflows", frame(8, 0, 0, word(2**31 - 1)), FLOW),
    Attack("a window update on an idle stream", frame(8, 0, 1, word(1)), WRONG),
    Attack("continuation alone", frame(9, 4, 1), WRONG),
    Attack("continuation of another stream", opening(1, 0) + frame(9, 4, 3), WRONG),
    Attack("a header block interrupted", opening(1, 0) + frame(6, 0, 0, bytes(8)), WRONG),
    Attack("a frame too large", frame(0, 0, 1, bytes(16_385)), SIZE),
    Attack("a frame too large, its header alone", b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", SIZE),
    Attack("an index into nothing", opening(1, data=b"\xff\xff\x01"), TABLE),
    Attack("a table size of ours exceeded", opening(1, data=b"\x3f\xe1\x1f"), TABLE),
    Attack("a header block cut off", opening(1, data=b"\x00\x05ab"), TABLE),
]  # fmt: skip


def attacked(attack: Attack, limits: Limits = TIGHT) -> Peer:
    peer = Peer(limits=limits).greet()
    peer.server.receive(attack.data, peer.now)
    return peer


@pytest.mark.parametrize("attack", FLOODS + ERRORS, ids=lambda attack: attack.name)
class TestConnectionErrors:
    def test_close_the_connection_with_their_code(self, attack):
        peer = attacked(attack)

        assert peer.server.closing
        assert peer.server.fault is not None
        assert peer.server.fault.code is attack.code

    def test_are_announced_by_goaway(self, attack):
        peer = attacked(attack)
        last = peer.server.take()[-200:]

        assert frame(7, 0, 0)[3:] in last
        assert attack.code.to_bytes(4, "big") in last

    def test_are_counted(self, attack):
        assert getattr(attacked(attack).server.counters, attack.counter) > 0

    def test_leave_no_stream_behind(self, attack):
        assert attacked(attack).server.streams == {}

    def test_the_connection_hears_nothing_more(self, attack):
        peer = attacked(attack)
        peer.server.take()
        peer.server.receive(frame(6, 0, 0, bytes(8)), peer.now)

        assert peer.server.take() == b""


@pytest.mark.parametrize("attack", FLOODS, ids=lambda attack: attack.name)
def test_a_flood_is_one_event_too_many(attack):
    assert attacked(attack).server.counters.floods == 1


@pytest.mark.parametrize("attack", FLOODS[:15], ids=lambda attack: attack.name)
def test_with_default_limits_the_same_is_no_flood(attack):
    assert not attacked(attack, Limits()).server.closing


STREAM_ERRORS = [
    ("data after the end", opening(1, 5) + frame(0, 0, 1, b"x"), ErrorCode.STREAM_CLOSED),
    ("headers after the half-close", opening(1, 5) + opening(1), WRONG),
    ("trailers that do not end", opening(1) + opening(1, data=encoded([(b"a", b"b")])), WRONG),
    ("pseudo headers in trailers", opening(1) + opening(1, 5, encoded([(b":path", b"/")])), WRONG),
    ("a window update of 0", opening(1) + frame(8, 0, 1, word(0)), WRONG),
    ("a window that overflows", opening(1) + frame(8, 0, 1, word(2**31 - 1)), FLOW),
    ("a stream that depends on itself", frame(1, 0x24, 1, word(1) + b"\0" + block()), WRONG),
    ("priority on itself", frame(2, 0, 1, word(1) + b"\0"), WRONG),
    ("priority of a wrong size", frame(2, 0, 1, b"abc"), SIZE),
    ("less data than promised", opening(1, data=PROMISES_5) + frame(0, 1, 1, b"x"), WRONG),
    ("no data at all of what was promised", opening(1, 5, PROMISES_5), WRONG),
    ("more data than promised", opening(1, data=PROMISES_1) + frame(0, 1, 1, b"xy"), WRONG),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "code"), STREAM_ERRORS, ids=lambda value: str(value)[:40])
def test_a_stream_error_resets_its_stream_alone(name, data, code):
    peer = Peer().greet()
    peer.server.receive(data, peer.now)

    assert frame(3, 0, 1, word(code)) in peer.server.take()
    assert not peer.server.closing
    assert peer.server.counters.unanswered_resets == 1


HEAD = dict(grpc_head("/echo.Echo/Silent"))
MALFORMED = [
    ("an upper case name", {**HEAD, "X-Upper": "1"}),
    ("a space in a name", {**HEAD, "a b": "1"}),
    ("an empty name", {**HEAD, "": "1"}),
    ("a colon in a name", {**HEAD, "a:b": "1"}),
    ("a pseudo header after fields", {**HEAD, ":late": "1"}),
    ("an unknown pseudo header", {":unknown": "1", **HEAD}),
    ("a response pseudo header", {":status": "200", **HEAD}),
    ("no method", {k: v for k, v in HEAD.items() if k != ":method"}),
    ("no scheme", {k: v for k, v in HEAD.items() if k != ":scheme"}),
    ("no path", {k: v for k, v in HEAD.items() if k != ":path"}),
    ("an empty path", {**HEAD, ":path": ""}),
    ("a path that is not UTF-8", {**HEAD, ":path": "/\udcff"}),
    ("connection", {**HEAD, "connection": "close"}),
    ("transfer-encoding", {**HEAD, "transfer-encoding": "chunked"}),
    ("upgrade", {**HEAD, "upgrade": "h2c"}),
    ("te other than trailers", {**HEAD, "te": "gzip"}),
    ("a line feed in a value", {**HEAD, "a": "b\nc"}),
    ("a zero byte in a value", {**HEAD, "a": "b\0c"}),
    ("a carriage return in a path", {**HEAD, ":path": "/\r"}),
    ("space before a value", {**HEAD, "a": " b"}),
    ("space after a value", {**HEAD, "a": "b "}),
    ("a value that is not UTF-8", {**HEAD, "a": "\udcff\udcfe"}),
    ("a content-length that is no number", {**HEAD, "content-length": "-1"}),
    ("a content-length without end", {**HEAD, "content-length": "9" * 30}),
    ("connect with a path", {**HEAD, ":method": "CONNECT"}),
]


@pytest.mark.parametrize(("name", "fields"), MALFORMED, ids=[name for name, _ in MALFORMED])
def test_a_malformed_head_is_a_stream_error(name, fields):
    pairs = [(n.encode(), v.encode("utf-8", "surrogateescape")) for n, v in fields.items()]
    peer = Peer().greet()
    peer.server.receive(opening(1, data=encoded(pairs)), peer.now)

    assert frame(3, 0, 1, word(WRONG)) in peer.server.take()
    assert peer.server.counters.malformed_requests == 1
    assert not peer.server.closing


class TestHeaderLists:
    def test_a_list_too_large_is_refused_with_431_once_tables_are_gone(self):
        peer = Peer(limits=TIGHT).greet()
        peer.server.receive(opening(1, data=block(big="x" * 2_500)), peer.now)

        assert peer.server.counters.header_lists_too_large == 1
        assert b"431" in peer.server.take()
        assert not peer.server.closing

    def test_a_list_too_large_before_that_ends_the_connection(self):
        peer = Peer(limits=TIGHT)
        hello = frames.PREFACE + frame(4, 0, 0)
        peer.server.receive(hello + opening(1, data=block(big="x" * 2_500)), peer.now)

        assert peer.server.fault.code is CALM

    def test_a_bomb_of_references_is_no_larger_than_any_list(self):
        encoder = Encoder()
        bomb = encoder.encode([(b"a", b"x" * 1_000)]) + b"\xbe" * 3_000
        peer = Peer(limits=TIGHT)
        peer.server.receive(frames.PREFACE + frame(4, 0, 0) + opening(1, data=bomb), peer.now)

        assert peer.server.counters.header_lists_too_large == 1
        assert peer.server.fault.code is CALM

    def test_blocks_are_remembered_only_after_the_peer_acknowledged(self):
        peer = Peer()
        head = block()
        peer.server.receive(
            frames.PREFACE + frame(4, 0, 0) + opening(1, data=head) + opening(3, data=head),
            peer.now,
        )
        assert peer.server.counters.blocks_remembered == 0

        peer.server.receive(
            frame(4, 1, 0) + opening(5, data=head) + opening(7, data=head), peer.now
        )

        assert peer.server.counters.blocks_remembered == 1
        assert peer.server.counters.blocks_decoded == 3

    def test_a_block_that_refers_to_a_table_reads_right_before_and_not_after(self):
        encoder = Encoder()
        head = grpc_head("/echo.Echo/Silent", x_a="b")
        first, second = (encoder.encode(head) for _ in range(2))
        peer = Peer()
        peer.server.receive(
            frames.PREFACE + frame(4, 0, 0) + opening(1, data=first) + opening(3, data=second),
            peer.now,
        )
        assert [h.call.metadata for h in peer.methods["/echo.Echo/Silent"].handlers] == [
            (("x-a", "b"),)
        ] * 2

        peer.server.receive(frame(4, 1, 0) + opening(5, data=second), peer.now)

        assert peer.server.fault.code is ErrorCode.COMPRESSION_ERROR

    def test_remembered_blocks_have_bounded_memory(self):
        peer = Peer(limits=Limits(remembered_blocks=20_000)).greet()
        for number in range(200):
            stream = 2 * number + 1
            peer.raw(opening(stream, data=block(x_id=str(number))) + reset(stream))

        reader = peer.server._header_reader
        assert 0 < reader._used <= 20_000
        assert len(reader._remembered) < 20

    def test_the_block_used_last_is_forgotten_last(self):
        peer = Peer(limits=Limits(remembered_blocks=10_000)).greet()
        for number in range(20):
            for data in (block(), block(x_id=str(number))):
                stream = peer.server.streams.last + 2 if peer.server.streams.last else 1
                peer.raw(opening(stream, data=data) + reset(stream))

        assert peer.server.counters.blocks_remembered == 19


class TestTimes:
    def test_a_client_that_says_nothing_is_closed(self):
        peer = Peer().later(11)

        assert peer.server.counters.handshake_timeouts == 1
        assert peer.server.closing

    def test_half_a_preface_is_nothing(self):
        peer = Peer()
        peer.server.receive(frames.PREFACE[:10], peer.now)

        assert peer.later(11).server.counters.handshake_timeouts == 1

    def test_settings_must_be_acknowledged(self):
        peer = Peer()
        peer.raw(frames.PREFACE + frame(4, 0, 0))
        peer.now += 31
        peer.server.tick(peer.now)

        assert peer.server.fault.code is ErrorCode.SETTINGS_TIMEOUT
        assert peer.server.counters.settings_timeouts == 1

    def test_a_frame_that_drips_is_cut(self):
        peer = Peer().greet()
        for byte in frame(6, 0, 0, bytes(8))[:16]:
            peer.server.receive(bytes((byte,)), peer.now)
            peer.now += 2.5
            peer.server.tick(peer.now)

        assert peer.server.counters.frame_timeouts == 1
        assert peer.server.fault.code is CALM

    def test_a_header_block_that_drips_is_cut(self):
        peer = Peer(limits=Limits(max_continuations=100)).greet()
        peer.raw(opening(1, 0))
        for _ in range(16):
            peer.raw(frame(9, 0, 1))
            peer.now += 2.5
            peer.server.tick(peer.now)

        assert peer.server.counters.frame_timeouts == 1

    def test_a_message_that_stops_half_way_is_cut(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Silent", end=False)
        peer.send(call, message(b"hello")[:7])
        peer.exchange().later(30).later(31)

        assert peer.status(call) == Status.CANCELLED
        assert peer.server.counters.message_timeouts == 1

    def test_a_message_that_drips_is_cut(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Silent", end=False)
        for byte in message(b"hello"):
            peer.send(call, bytes((byte,)))
            peer.exchange().later(15)
            if call in peer.ended:
                break

        assert peer.status(call) == Status.CANCELLED

    def test_a_large_message_may_take_longer(self):
        peer = Peer().greet()
        call = peer.call("/echo.Echo/Bidi", end=False)
        data = message(bytes(1 << 20))
        for at in range(0, len(data), 1 << 18):
            peer.send(call, data[at : at + (1 << 18)])
            peer.exchange().later(15)

        assert peer.replies(call) == [bytes(1 << 20)]

    def test_a_client_that_takes_nothing_is_cut(self):
        peer = Peer(client_settings={Setting.INITIAL_WINDOW_SIZE: 10}).greet()
        peer.auto_credit = False
        call = peer.call("/echo.Echo/Bidi", b"x" * 100, end=False)
        peer.later(1).later(30).later(31)

        assert peer.resets[call] == ErrorCode.CANCEL
        assert peer.server.counters.stalls == 1
        assert peer.methods["/echo.Echo/Bidi"].last.cancelled_for is Cancellation.LIMIT

    def test_an_idle_connection_is_drained(self):
        peer = Peer(limits=Limits(keepalive_interval=0)).greet()
        peer.server.tick(peer.now + 3_601)

        assert peer.server.counters.idle_timeouts == 1
        assert peer.server.take().startswith(frame(7, 0, 0, word(2**31 - 1) + word(0)))

    def test_keepalive_asks_and_a_client_that_answers_stays(self):
        peer = Peer().greet()
        peer.later(121)
        peer.later(21)

        assert peer.server.counters.pings_in == 1
        assert not peer.server.closing

    def test_keepalive_gives_up_on_a_client_that_does_not(self):
        peer = Peer().greet()
        for seconds in (121, 21):
            peer.now += seconds
            peer.server.tick(peer.now)

        assert peer.server.counters.keepalive_timeouts == 1
        assert peer.server.closing

    def test_a_time_limit_of_0_is_none(self):
        never = Limits(
            handshake_timeout=0, settings_timeout=0, keepalive_interval=0, idle_timeout=0
        )
        peer = Peer(limits=never)
        peer.server.tick(peer.now + 1e6)

        assert not peer.server.closing


class TestValues:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_pings", -1),
            ("stream_window", 100),
            ("connection_window", 1 << 31),
            ("max_frame_size", 1),
            ("slowest_rate", 0),
        ],
    )
    def test_a_limit_out_of_range_is_refused_by_name(self, name, value):
        with pytest.raises(ValueError, match=name):
            Limits(**{name: value})

    def test_a_rate_starts_anew_with_each_interval(self):
        rate = Rate(2, 10.0)

        assert [rate.exceeded(now) for now in (0, 1, 2, 11, 12, 13)] == [False, False, True] * 2

    def test_counters_add_up(self):
        total = Counters(streams=1, pings_in=2)
        total.add(Counters(streams=3))

        assert (total.streams, total.pings_in) == (4, 2)
