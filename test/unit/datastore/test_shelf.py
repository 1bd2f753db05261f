"""State of plugins outlives a reload, and hears of endpoints that go."""

from support.stores import Log, pod, store_of

from epp.domain.response import Ending
from epp.points import StateShelf


class Remembering:
    """State that notes the slots it is told of."""

    def __init__(self):
        self.removed = []

    def on_removed(self, slot):
        self.removed.append(slot)


def test_a_shelf_is_what_plugins_are_promised():
    shelf: StateShelf = store_of().shelf("queue", "queue-scorer")

    assert shelf.keep("seen", set) == set()


def test_the_same_plugin_finds_its_state_again():
    store = store_of()
    made = store.shelf("queue", "queue-scorer").keep("seen", list)

    assert store.shelf("queue", "queue-scorer").keep("seen", list) is made


def test_another_shape_is_another_state():
    shelf = store_of().shelf("queue", "queue-scorer")

    assert shelf.keep("seen", list, shape="16") is not shelf.keep("seen", list, shape="32")


def test_another_name_or_type_is_another_state():
    store = store_of()
    states = [
        store.shelf(name, plugin_type).keep("seen", list)
        for name, plugin_type in [("a", "x"), ("b", "x"), ("a", "y")]
    ]

    assert len({id(state) for state in states}) == 3


def test_state_hears_of_endpoints_that_go():
    store = store_of(pod(0), pod(1))
    state = store.shelf("prefix", "prefix-cache-scorer").keep("index", Remembering)
    store.set_endpoints("test", [pod(1)])

    assert state.removed == [0]


class Failing:
    def __init__(self):
        self.says = "the secret"

    def on_removed(self, slot):
        raise KeyError(self.says)


def test_one_that_fails_to_hear_keeps_nobody_else_from_it():
    log = Log()
    store = store_of(pod(0), pod(1), log=log)
    store.shelf("bad", "x").keep("index", Failing)
    good = store.shelf("good", "x").keep("index", Remembering)
    store.set_endpoints("test", [pod(1)])
    store.set_endpoints("test", [pod(1), pod(2)])

    assert good.removed == [0]
    assert store.view()["slots"].tolist() == [1, 0]
    assert "removal_hearer_failed" in log.events()
    assert "the secret" not in str(log.lines)


def test_what_no_shelf_in_use_asked_for_is_dropped():
    store = store_of()
    before = store.shelf("a", "x")
    before.keep("old", list, shape="1")
    before.keep("kept", list)
    after = store.shelf("a", "x")
    after.keep("kept", list)

    assert store.clear_unused_state([after]) == 1
    assert store.clear_unused_state([after]) == 0


class Listening:
    """State that notes whose first token was seen."""

    def __init__(self):
        self.heard = []

    def on_first_token(self, request_id):
        self.heard.append(request_id)


def test_state_hears_of_first_tokens_while_a_request_is_open():
    store = store_of(pod(0))
    shelf = store.shelf("latency", "producer")
    state = shelf.keep("answers", Listening)
    one = store.reserve(pod(0), tokens=10, request_id="one")
    other = store.reserve(pod(0), tokens=10, request_id="other")
    one.first_token()
    other.release(Ending.CLIENT_GONE)
    other.first_token()

    assert state.heard == ["one"]


def test_state_that_was_dropped_hears_nothing_more():
    store = store_of(pod(0))
    state = store.shelf("latency", "producer").keep("answers", Listening)
    store.clear_unused_state([])
    store.reserve(pod(0), tokens=10, request_id="one").first_token()

    assert state.heard == []


class FailingListener:
    def on_first_token(self, request_id):
        raise KeyError(request_id)


def test_state_that_fails_at_a_first_token_is_logged_and_stops_nothing():
    log = Log()
    store = store_of(pod(0), log=log)
    store.shelf("latency", "producer").keep("answers", FailingListener)
    reservation = store.reserve(pod(0), tokens=10, request_id="one")
    reservation.first_token()

    assert log.events() == ["first_token_hearer_failed"]
