"""Who is taken back for work of higher priority, and who is not."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pools import pool, request
from support.queues import levels_of, waiting

from epp.admission.eviction import AT_ONCE, PATIENCE, PAUSE, YOUNG, Eviction, cheapest
from epp.domain.endpoint import ROLE_LABEL, Endpoint
from epp.domain.request import Request
from epp.errors import Evicted
from epp.plugins.saturation.concurrency import ConcurrencyDetector

NOW = 100.0
WHY = Evicted("for a test")
TWO_EACH = ConcurrencyDetector(ConcurrencyDetector.Params(max_concurrency=2))


@dataclass
class Placed:
    """A placed request."""

    request: Request
    endpoint: Endpoint
    status: int = 0
    since: float = NOW - 1.0


@dataclass
class Pool:
    """Endpoints that take two requests each, what runs on them, and who was taken back."""

    view: object
    running: list = field(default_factory=list)
    revoked: list = field(default_factory=list)
    begun: set = field(default_factory=set)
    eviction: Eviction = field(default_factory=Eviction)

    def __post_init__(self):
        self.eviction.connect(lambda: self.running, self.revoke)

    def revoke(self, placed, why):
        if placed.request.id in self.begun:
            return False
        self.running.remove(placed)
        self.revoked.append(placed.request.id)
        return True

    def runs(self, name, row, priority=-1, **fields):
        placed = Placed(request(id=name, priority=priority), self.view.endpoints[row], **fields)
        self.running.append(placed)
        return self

    def look(self, priority=0, waited=1.0, now=NOW, ceiling=1.0):
        head = waiting(1, since=now - waited, priority=priority)
        levels = levels_of(self.view, TWO_EACH)
        taken = self.eviction.make_room(head, levels, ceiling, WHY, now)
        return [each.id for each in taken]


def full(*inflight):
    return Pool(pool(len(inflight), inflight_requests=list(inflight)))


def test_of_the_lowest_priority_who_was_placed_last():
    house = full(3).runs("old", 0, -2).runs("young", 0, -2).runs("dear", 0, -1)

    assert house.look() == ["young", "old"]


def test_no_more_than_makes_room():
    house = full(2).runs("one", 0).runs("two", 0)

    assert house.look() == ["two"]


def test_where_fewest_have_to_go():
    house = full(3, 2).runs("a", 0).runs("b", 0).runs("c", 1)

    assert house.look() == ["c"]


@pytest.mark.parametrize(
    ("placed", "look"),
    [
        pytest.param({"priority": 0}, {"priority": 5}, id="not-sheddable"),
        pytest.param({"priority": -1}, {"priority": -1}, id="of-the-same-priority"),
        pytest.param({"priority": -1}, {"priority": -2}, id="of-higher-priority"),
        pytest.param({"status": 200}, {}, id="its-response-has-begun"),
        pytest.param({"since": NOW - YOUNG - 0.1}, {}, id="has-run-for-long"),
        pytest.param({}, {"waited": PATIENCE / 2}, id="nobody-has-waited-long"),
    ],
)
def test_stays(placed, look):
    house = full(2).runs("it", 0, **placed)

    assert house.look(**look) == []


def test_a_negative_priority_that_waits_takes_from_those_below_it():
    house = full(2).runs("low", 0, -3)

    assert house.look(priority=-1) == ["low"]


def test_nobody_is_taken_back_in_vain():
    house = full(9, 4).runs("a", 0).runs("b", 0).runs("c", 1)

    assert house.look() == []


def test_then_there_is_a_pause():
    house = full(2).runs("one", 0).runs("two", 0)
    first = house.look()
    at_once, later = house.look(now=NOW + PAUSE / 2), house.look(now=NOW + PAUSE)

    assert (first, at_once, later) == (["two"], [], ["one"])


class Watched(list):
    """Counts how often somebody goes through it."""

    times = 0

    def __reversed__(self):
        self.times += 1
        return super().__reversed__()


def test_those_that_run_are_not_looked_through_at_every_news():
    house = full(9).runs("one", 0)
    house.running = Watched(house.running)
    for step in range(100):
        house.look(now=NOW + step / 1000)

    assert house.running.times == 2


def test_a_response_that_begins_in_between_is_left_alone():
    house = full(2).runs("one", 0)
    house.begun.add("one")

    assert house.look() == []
    assert [each.request.id for each in house.running] == ["one"]


def test_room_on_one_side_helps_nobody_who_needs_two():
    view = pool(
        inflight_requests=[2, 2],
        endpoints=[
            Endpoint(name=role, host=f"10.0.0.{i}", port=8000, labels={ROLE_LABEL: role})
            for i, role in enumerate(("prefill", "decode"), 1)
        ],
    )

    assert Pool(view).runs("one", 1).look() == []


def test_it_does_nothing_until_it_is_connected():
    levels = levels_of(pool(1, inflight_requests=[2]), TWO_EACH)

    assert list(Eviction().make_room(waiting(1), levels, 1.0, WHY, NOW)) == []


COUNTS = st.lists(st.tuples(st.floats(-5, 20), st.integers(0, 5)), min_size=1, max_size=6)


@given(COUNTS)
def test_of_one_endpoint_and_as_few_as_make_room(endpoints):
    victims = {
        str(i): [Placed(request(id=f"{i}-{n}", priority=-1), None) for n in range(count)]
        for i, (_, count) in enumerate(endpoints)
        if count
    }
    surplus = {str(i): over for i, (over, _) in enumerate(endpoints)}
    taken = cheapest(victims, surplus)

    assert len(taken) <= AT_ONCE
    if taken:
        (key,) = {each.request.id.partition("-")[0] for each in taken}
        assert surplus[key] - len(taken) < 0
        assert len(taken) == 1 or surplus[key] - len(taken) + 1 >= 0
