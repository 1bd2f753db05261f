"""Windows follow what is held: a flood of large requests waits at the client, and all are read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.http2_peer import Peer, message
from support.wire_echo import EchoHandler

from epp.wire.budget import Backlog, ByteBudget
from epp.wire.limits import Limits

WINDOW = 20_000
LIMITS = Limits(stream_window=WINDOW, connection_window=1 << 20, window_patience=1.0)


class Collecting(EchoHandler):
    """Holds what comes against a budget until it is told to answer, as a session does."""

    def __init__(self, call, budget):
        super().__init__(call)
        self.budget = budget
        self.held = 0
        self.whole = False

    def message(self, data):
        assert self.budget.take(len(data))
        self.held += len(data)

    def half_closed(self):
        self.whole = True

    def answer(self):
        self.budget.give(self.held)
        self.held = 0
        self.call.send(b"placed")
        self.call.end()


class Picker:
    """One connection of which every request is collected against one budget."""

    def __init__(self, budget: int, limits: Limits = LIMITS):
        self.budget = ByteBudget(budget)
        self.backlog = Backlog(self.budget)
        self.handlers = {}
        self.peer = Peer({"/m": self}, limits=limits, backlog=self.backlog).greet()

    def open(self, call):
        self.newest = Collecting(call, self.budget)
        return self.newest

    def call(self) -> int:
        stream = self.peer.call("/m", end=False)
        self.handlers[stream] = self.newest
        return stream

    def room(self, stream: int) -> int:
        return self.peer.client.local_flow_control_window(stream)

    def fill(self, stream: int, size: int) -> None:
        """Send `size` bytes in messages that fit into a frame, no more than there is room for."""
        assert size <= self.room(stream)
        for at in range(0, size, 1_000):
            self.peer.client.send_data(stream, message(bytes(min(1_000, size - at) - 5)))
        self.peer.exchange()


class TestBelowTheMark:
    def test_every_window_is_widened(self):
        picker = Picker(1 << 20)
        calls = [picker.call() for _ in range(3)]
        for call in calls:
            picker.fill(call, 10_000)

        assert [picker.room(call) for call in calls] == [WINDOW] * 3


class TestAboveTheMark:
    @pytest.fixture
    def picker(self):
        """A quarter of the budget is free, and the first stream goes on."""
        picker = Picker(40_000)
        self.leader, self.second, self.third = (picker.call() for _ in range(3))
        for call in (self.leader, self.second, self.third):
            picker.fill(call, 9_900)
        picker.fill(self.leader, 500)
        return picker

    def test_one_goes_on(self, picker):
        assert picker.room(self.leader) == WINDOW

    def test_the_others_wait(self, picker):
        picker.fill(self.second, 1_000)

        assert picker.room(self.second) == WINDOW - 10_900

    def test_bytes_given_back_end_the_wait(self, picker):
        picker.fill(self.second, 1_000)
        picker.handlers[self.leader].answer()
        picker.peer.later(0.25)

        assert picker.room(self.second) == WINDOW

    def test_it_ends_with_the_next_read_as_well(self, picker):
        picker.fill(self.second, 1_000)
        picker.handlers[self.leader].answer()
        picker.fill(self.third, 100)

        assert picker.room(self.second) == WINDOW

    def test_the_first_to_wait_follows_one_that_is_whole(self, picker):
        picker.fill(self.second, 1_000)
        picker.fill(self.third, 1_000)
        picker.peer.client.end_stream(self.leader)
        picker.peer.exchange()

        assert picker.room(self.second) == WINDOW
        assert picker.room(self.third) < WINDOW

    def test_it_follows_one_that_was_reset_too(self, picker):
        picker.fill(self.second, 1_000)
        picker.peer.client.reset_stream(self.leader)
        picker.budget.take(10_000)
        picker.peer.exchange()

        assert picker.room(self.second) == WINDOW

    def test_nobody_waits_longer_than_the_limit(self, picker):
        picker.fill(self.second, 1_000)
        picker.peer.later(0.9)
        before = picker.room(self.second)
        picker.peer.later(0.2)

        assert before < picker.room(self.second) == WINDOW

    def test_a_small_request_needs_no_window(self, picker):
        call = picker.call()
        picker.fill(call, 5_000)
        picker.peer.client.end_stream(call)
        picker.peer.exchange()

        assert picker.handlers[call].whole

    def test_an_answer_that_streams_past_is_not_made_to_wait(self, picker):
        picker.handlers[self.second].call.send(b"placed")
        picker.budget.take(5_000)
        picker.peer.exchange()
        picker.fill(self.second, 1_000)

        assert picker.backlog.high
        assert picker.room(self.second) == WINDOW

    def test_the_window_of_the_connection_is_never_withheld(self, picker):
        window = picker.peer.server._inbound

        assert window.remaining + window.due == 1 << 20

    def test_a_patience_of_0_withholds_nothing(self):
        picker = Picker(20_000, Limits(stream_window=WINDOW, window_patience=0.0))
        calls = [picker.call() for _ in range(2)]
        for call in calls:
            picker.fill(call, 10_000 - 100)
            picker.fill(call, 100)

        assert [picker.room(call) for call in calls] == [WINDOW] * 2


class TestUnfinishedMessages:
    """In buffered mode a request is one message, and its head was answered before."""

    def test_they_count(self):
        picker = Picker(15_000)
        first, second = picker.call(), picker.call()
        for call in (first, second):
            picker.handlers[call].call.send(b"head")
            picker.peer.client.send_data(call, message(bytes(25_000))[:12_000])
            picker.peer.exchange()

        assert picker.backlog.assembling == 2 * 12_000 - 2 * 5
        assert picker.room(first) == WINDOW
        assert picker.room(second) == WINDOW - 12_000

    @pytest.mark.parametrize("how", ["finished", "reset", "lost"])
    def test_they_count_no_more_once_they_end(self, how):
        picker = Picker(1 << 20)
        call = picker.call()
        data = message(bytes(30_000))
        picker.peer.client.send_data(call, data[:12_000])
        picker.peer.exchange()
        if how == "finished":
            picker.peer.send(call, data[12_000:])
        elif how == "reset":
            picker.peer.client.reset_stream(call)
        else:
            picker.peer.server.lost()
        picker.peer.exchange()

        assert picker.backlog.assembling == 0


SIZES = st.lists(st.integers(1, 90_000), min_size=1, max_size=6)


@settings(max_examples=60)
@given(SIZES, st.integers(1_000, 100_000), st.booleans(), st.data())
def test_every_request_is_read_whole_however_much_is_held(sizes, budget, at_once, data):
    """Whatever the order of sends and however late held bodies are given back, even never."""
    picker = Picker(1 << 30)
    picker.backlog._mark = budget
    left = {picker.call(): message(bytes(size)) for size in sizes}
    most = sum(3 + 4 * len(rest) // WINDOW for rest in left.values())
    for _ in range(most):
        for call in data.draw(st.permutations(sorted(left))):
            room = min(picker.room(call), len(left[call]))
            for at in range(0, room, 16_384):
                picker.peer.client.send_data(call, left[call][at : min(at + 16_384, room)])
            left[call] = left[call][room:]
            if not left[call] and not picker.handlers[call].whole:
                picker.peer.client.end_stream(call)
        picker.peer.exchange()
        for handler in picker.handlers.values():
            if at_once and handler.whole and handler.held:
                handler.answer()
        if not any(left.values()):
            break
        picker.peer.later(1.0)

    assert all(handler.whole for handler in picker.handlers.values())
    assert picker.backlog.assembling == 0
    assert picker.peer.server._withheld.waiting == {}
