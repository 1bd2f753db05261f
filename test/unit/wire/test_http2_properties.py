"""Properties: any split, any order, any window give the same calls; no bytes do harm."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.http2_peer import Peer, message
from support.wire_echo import EchoHandler
from support.wire_fuzz import Mutator, conversation

from epp.wire import frames
from epp.wire.frames import Setting
from epp.wire.limits import Limits

EXAMPLES = int(os.environ.get("EPP_EXAMPLES", "100"))
bounded = settings(max_examples=EXAMPLES)

sizes = st.lists(st.integers(0, 400) | st.integers(0, 60_000), max_size=4)


def bodies(of_sizes):
    """Messages of these sizes, each filled with its place in the order."""
    return [bytes((turn,)) * size for turn, size in enumerate(of_sizes)]


def cut_by(sizes):
    """A split of bytes into pieces whose sizes come from a list, over and over."""

    def split(data):
        pieces, at, turn = [], 0, 0
        while at < len(data):
            pieces.append(data[at : at + sizes[turn % len(sizes)]])
            at += sizes[turn % len(sizes)]
            turn += 1
        return pieces

    return split


@bounded
@given(sizes, st.lists(st.integers(1, 3_000), min_size=1, max_size=5))
def test_any_split_of_the_bytes_gives_the_same_answers(body_sizes, pieces):
    messages = bodies(body_sizes)
    peer = Peer(split=cut_by(pieces)).greet()
    call = peer.call("/echo.Echo/Bidi", *messages)

    assert (peer.replies(call), peer.status(call)) == (messages, 0)


@settings(max_examples=10)
@given(st.lists(st.binary(max_size=30), max_size=3))
def test_byte_by_byte_gives_the_same_answers(messages):
    peer = Peer(split=cut_by([1])).greet()
    call = peer.call("/echo.Echo/Bidi", *messages)

    assert (peer.replies(call), peer.status(call)) == (messages, 0)


@bounded
@given(
    sizes,
    st.integers(16_384, 200_000),
    st.integers(65_535, 200_000),
    st.integers(500, 100_000),
    st.integers(16_384, 100_000),
)
def test_windows_and_frames_of_every_size_pass_everything(
    body_sizes, stream_window, connection_window, peer_window, frame_size
):
    messages = bodies(body_sizes)
    limits = Limits(stream_window=stream_window, connection_window=connection_window)
    peer = Peer(limits=limits).greet()
    peer.client.update_settings(
        {Setting.INITIAL_WINDOW_SIZE: peer_window, Setting.MAX_FRAME_SIZE: frame_size}
    )
    peer.exchange()
    call = peer.call("/echo.Echo/Bidi", *messages)

    assert (peer.replies(call), peer.status(call)) == (messages, 0)


class Conversation(RuleBasedStateMachine):
    """A legal client in any order of steps, against what each call must have answered."""

    def __init__(self) -> None:
        super().__init__()
        limits = Limits(stream_window=20_000, connection_window=70_000, high_water=2_000)
        self.peer = Peer(limits=limits, client_settings={Setting.INITIAL_WINDOW_SIZE: 3_000})
        self.peer.greet()
        self.peer.auto_credit = False
        self.sent: dict[int, list[bytes]] = {}
        self.open: list[int] = []
        self.closed: set[int] = set()

    @rule()
    def open_call(self):
        call = self.peer.call("/echo.Echo/Bidi", end=False)
        self.sent[call] = []
        self.open.append(call)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), size=st.integers(0, 6_000))
    def send_message(self, data, size):
        call = data.draw(st.sampled_from(self.open))
        body = bytes((len(self.sent[call]) % 256,)) * size
        self.sent[call].append(body)
        self.peer.send(call, message(body))
        self.peer.exchange()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def half_close(self, data):
        call = data.draw(st.sampled_from(self.open))
        self.open.remove(call)
        self.closed.add(call)
        self.peer.client.end_stream(call)
        self.peer.exchange()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def reset(self, data):
        call = data.draw(st.sampled_from(self.open))
        self.open.remove(call)
        del self.sent[call]
        self.peer.client.reset_stream(call, 8)
        self.peer.exchange()

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), size=st.integers(1, 20_000))
    def widen(self, data, size):
        call = data.draw(st.sampled_from(sorted(self.sent)))
        if call not in self.peer.ended:
            self.peer.client.increment_flow_control_window(size, call)
        self.peer.client.increment_flow_control_window(size)
        self.peer.exchange()

    @rule(size=st.integers(0, 30_000))
    def change_window(self, size):
        self.peer.client.update_settings({Setting.INITIAL_WINDOW_SIZE: size})
        self.peer.exchange()

    @rule()
    def ping(self):
        self.peer.client.ping(b"12345678")
        self.peer.exchange()

    @rule()
    def socket_fills_and_empties(self):
        self.peer.server.pause()
        self.peer.exchange()
        self.peer.server.resume()
        self.peer.exchange()

    @invariant()
    def answers_are_a_beginning_of_what_was_sent(self):
        for call, sent in self.sent.items():
            whole = b"".join(map(message, sent))
            assert whole.startswith(self.peer.data[call])
            if call in self.peer.ended:
                assert whole == self.peer.data[call]
                assert self.peer.status(call) == 0

    @invariant()
    def nothing_is_held_for_calls_that_are_over(self):
        outbox = self.peer.server._outbox
        assert outbox.queued == sum(lane.queued for lane in outbox.waiting.values())
        assert set(outbox.waiting) <= set(self.peer.server.streams)
        assert not self.peer.server.closing

    @invariant()
    def every_byte_read_is_given_back_or_due(self):
        window = self.peer.server._inbound
        assert window.remaining + window.due == 70_000

    def teardown(self):
        for _ in range(500):
            waiting = [c for c in self.sent if c not in self.peer.ended]
            if not any(len(self.peer.data[c]) < self._size(c) for c in waiting):
                break
            for call in waiting:
                self.peer.client.increment_flow_control_window(30_000, call)
            self.peer.client.increment_flow_control_window(60_000)
            self.peer.exchange()
        self.answers_are_a_beginning_of_what_was_sent()
        assert self.closed & set(self.sent) <= self.peer.ended

    def _size(self, call):
        return sum(len(body) + 5 for body in self.sent[call])


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=25, stateful_step_count=25)


@bounded
@given(st.binary(max_size=2_000))
def test_bytes_that_mean_nothing_close_and_raise_nothing(data):
    peer = Peer()
    peer.server.receive(frames.PREFACE + frames.settings_frame([]) + data, peer.now)
    peer.server.take()

    assert peer.server._reader.partial < 9 + 16_384


@bounded
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_mutated_frames_raise_nothing_and_hold_no_memory(seed, count):
    mutator = Mutator(seed)
    peer = Peer()
    peer.server.receive(frames.PREFACE + frames.settings_frame([]), peer.now)
    for data in mutator.mutated(conversation(seed), count):
        peer.server.receive(data, peer.now)
        peer.server.take()
        peer.now += 0.01
        peer.server.tick(peer.now)

    assert peer.server._reader.partial < 9 + 16_384
    assert peer.server._outbox.ready == []
    assert peer.server.assembling <= peer.server.limits.max_assembling
    assert peer.faults == []
    if peer.server.closing:
        assert peer.server.streams == {}
        assert all(isinstance(h, EchoHandler) for m in _recorded(peer) for h in m.handlers)


def _recorded(peer):
    return [method for method in peer.methods.values() if hasattr(method, "handlers")]
