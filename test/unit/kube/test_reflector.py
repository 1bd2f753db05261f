"""The reflector's core, driven without a server; its state against a server's, whatever happens."""

import json
import random

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.kube_model import Gone, ServerModel, error_line, line, thing

from epp.kube.objects import Meta
from epp.kube.reflector import Failure, Heard, List, Pace, Reflector, Trouble, Wait, Watch

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
CALM = Pace(page=2)


class Value(msgspec.Struct, frozen=True):
    metadata: Meta
    value: str


def reflector(pace=CALM, **selection):
    decoder = msgspec.json.Decoder(Value)
    return Reflector(decoder.decode, random.Random(1), pace, selection)


def page(*items, version="10", more=""):
    meta = {"resourceVersion": version, "continue": more}
    return json.dumps({"metadata": meta, "items": list(items)}).encode()


def listed(*items, **fields):
    made = reflector(**fields)
    made.page(page(*items), 0.0)
    return made


def values(made):
    return {name: found.value for name, found in made.objects.items()}


def test_asks_for_a_list_first_with_its_selection():
    step = reflector(labelSelector="app=a").next(0.0)

    assert step == List({"labelSelector": "app=a", "limit": "2"})


def test_shows_nothing_before_the_last_page():
    made = reflector()
    made.page(page(thing("a", 1, "x"), more="next"), 0.0)

    assert (made.synced, made.objects) == (False, {})
    assert made.next(0.0) == List({"limit": "2", "continue": "next"})


def test_watches_from_the_version_of_the_list():
    step = listed().next(0.0)

    assert isinstance(step, Watch)
    assert step.query["resourceVersion"] == "10"
    assert step.query["allowWatchBookmarks"] == "true"


def test_goes_on_from_a_bookmark():
    made = listed()
    made.next(0.0)
    made.line(line("BOOKMARK", {"metadata": {"resourceVersion": "99"}}), 9.0)
    made.ended(9.0)

    assert made.next(9.0).query["resourceVersion"] == "99"


def test_an_expired_version_is_listed_anew_and_what_vanished_is_gone():
    made = listed(thing("a", 1, "x"), thing("b", 2, "y"))
    made.next(0.0)
    assert made.line(error_line(410), 1.0) is Heard.BROKEN
    assert values(made) == {"a": "x", "b": "y"}

    assert made.page(page(thing("b", 2, "y"), version="30"), 2.0)
    assert values(made) == {"b": "y"}


def test_an_expired_page_token_makes_the_next_list_a_whole_one():
    made = reflector()
    made.page(page(thing("a", 1, "x"), more="next"), 0.0)
    made.failed(Failure(410, "expired"), 0.0)

    assert made.next(1.0) == List({})


def test_a_kind_that_is_not_installed_is_settled_and_looked_for_again():
    made = reflector()
    made.failed(Failure(404, "no such kind"), 0.0)

    assert made.settled
    assert made.trouble is Trouble.ABSENT
    assert isinstance(made.next(0.0), Wait)
    assert isinstance(made.next(10.0), List)


def test_a_kind_that_is_removed_takes_its_objects_along():
    made = listed(thing("a", 1, "x"))
    made.failed(Failure(404, "gone"), 0.0)
    assert values(made) == {"a": "x"}

    assert made.failed(Failure(404, "gone"), 1.0)
    assert made.objects == {}


def test_what_is_known_stays_when_the_server_is_away():
    made = listed(thing("a", 1, "x"))
    made.failed(Failure(0, "connection refused"), 0.0)
    made.failed(Failure(403, "no"), 1.0)

    assert values(made) == {"a": "x"}
    assert made.synced


def test_a_server_that_is_away_is_asked_from_the_same_version_later_and_later():
    made = listed()
    waits = []
    now = 0.0
    for _ in range(12):
        assert isinstance(made.next(now), Watch)
        made.failed(Failure(0, "connection refused"), now)
        waits.append(made.next(now).seconds)
        now += waits[-1]

    assert waits[0] < 0.3
    assert max(waits) <= CALM.longest_pause
    assert waits[-1] > CALM.longest_pause / 3
    assert made.tally.relists == {}


def test_a_version_that_is_refused_thrice_is_doubted():
    made = listed()
    for now in (0.0, 10.0, 20.0):
        made.next(now)
        made.failed(Failure(504, "too large a version"), now)

    assert isinstance(made.next(60.0), List)
    assert made.tally.relists == {"refused": 1}


def test_where_watching_is_not_allowed_it_lists_from_time_to_time():
    made = listed(thing("a", 1, "x"))
    made.next(0.0)
    made.failed(Failure(403, "may not watch"), 0.0)
    assert isinstance(made.next(0.0), Wait)
    assert isinstance(made.next(10.0), List)

    made.page(page(thing("b", 2, "y")), 10.0)
    assert values(made) == {"b": "y"}
    assert made.trouble is Trouble.FORBIDDEN


def test_retry_after_is_obeyed():
    made = listed()
    made.failed(Failure(429, "busy", retry_after=7.0), 0.0)

    assert made.next(0.0) == Wait(7.0)


def test_watches_that_end_at_once_are_not_opened_in_a_hot_loop():
    made = listed()
    made.next(0.0)
    made.ended(0.01)

    assert isinstance(made.next(0.01), Wait)


def test_an_object_that_cannot_be_read_is_left_out_by_name():
    made = listed({"metadata": {"name": "a"}, "value": 5}, thing("b", 1, "x"))

    assert values(made) == {"b": "x"}
    assert "value" in made.unreadable["a"]


def test_a_line_that_cannot_be_read_leads_to_a_new_list():
    made = listed()
    made.next(0.0)

    assert made.line(b"<html>", 1.0) is Heard.BROKEN
    assert isinstance(made.next(60.0), List)


def test_an_event_that_repeats_what_is_known_changes_nothing():
    made = listed(thing("a", 1, "x"))

    assert made.line(line("MODIFIED", thing("a", 1, "x")), 0.0) is Heard.NOTHING
    assert made.line(line("MODIFIED", thing("a", 2, "y")), 0.0) is Heard.CHANGED


class Histories(RuleBasedStateMachine):
    """A reflector and a server: writes, compactions, restarts, and every way a call can fail."""

    def __init__(self):
        super().__init__()
        self.server = ServerModel()
        self.made = reflector()
        self.now = 0.0
        self.watching = None
        self.states = [{}]

    def remember(self):
        self.states.append({n: o["value"] for n, o in self.server.objects.items()})

    @rule(name=NAMES, value=st.text("xyz", min_size=1, max_size=3))
    def write(self, name, value):
        self.server.write(name, value)
        self.remember()

    @rule(name=NAMES)
    def delete(self, name):
        self.server.delete(name)
        self.remember()

    @rule()
    def compact(self):
        self.server.compact()

    @rule()
    def restart(self):
        self.server.restart()
        self.end_watch()

    @rule()
    def step(self):
        """One call answered as the server would."""
        if self.watching is not None:
            self.deliver(None)
            return
        step = self.made.next(self.now)
        if isinstance(step, Wait):
            self.now += step.seconds
        elif isinstance(step, List):
            self.list(step)
        else:
            self.open(step)

    def list(self, step):
        try:
            self.made.page(self.server.page(step.query), self.now)
        except Gone:
            self.made.failed(Failure(410, "expired"), self.now)

    def open(self, step):
        version = int(step.query["resourceVersion"])
        try:
            self.server.since(version)
        except Gone:
            self.made.failed(Failure(410, "too old"), self.now)
        else:
            self.made.opened()
            self.watching = version

    @precondition(lambda self: self.watching is not None)
    @rule(count=st.integers(0, 3))
    def deliver(self, count):
        """Some of what is due; the watch loses its place if the history is compacted meanwhile."""
        try:
            due = self.server.since(self.watching)
        except Gone:
            self.heard(error_line(410, "Expired"))
            return
        for at, text in due[:count]:
            self.watching = at
            self.heard(text)

    def heard(self, text):
        if self.made.line(text, self.now) is Heard.BROKEN:
            self.watching = None

    @precondition(lambda self: self.watching is not None)
    @rule()
    def bookmark(self):
        if self.watching == self.server.version:
            self.heard(self.server.bookmark())

    @precondition(lambda self: self.watching is not None)
    @rule(repeat=st.booleans())
    def repeat(self, repeat):
        """The same event once more, as after a broken connection."""
        if repeat and self.server.history and self.server.history[-1][0] == self.watching:
            _, kind, item = self.server.history[-1]
            self.heard(line(kind, item))

    @precondition(lambda self: self.watching is not None)
    @rule(broken=st.sampled_from([b"", b'{"type": "\xff"}', error_line(500), error_line(410)]))
    def spoil(self, broken):
        self.heard(broken)

    @precondition(lambda self: self.watching is not None)
    @rule(seconds=st.sampled_from([0.0, 1.0, 400.0]))
    def end(self, seconds):
        self.now += seconds
        self.end_watch()

    def end_watch(self):
        if self.watching is not None:
            self.watching = None
            self.made.ended(self.now)

    @precondition(lambda self: self.watching is None)
    @rule(status=st.sampled_from([0, 400, 401, 403, 404, 410, 429, 500, 503, 504]))
    def fail(self, status):
        if not isinstance(self.made.next(self.now), Wait):
            self.made.failed(Failure(status, "no"), self.now)

    @precondition(lambda self: self.watching is None)
    @rule()
    def garble(self):
        if isinstance(self.made.next(self.now), List):
            self.made.page(b'{"items": [', self.now)

    @invariant()
    def shows_a_state_the_server_once_had(self):
        assert values(self.made) in self.states

    def teardown(self):
        """Left in peace, it comes to show exactly what the server holds."""
        for _ in range(100):
            if self.watching == self.server.version:
                break
            self.step()
        assert values(self.made) == {n: o["value"] for n, o in self.server.objects.items()}
        assert self.made.synced
        assert self.made.trouble is Trouble.NONE


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=40)
