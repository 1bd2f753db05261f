"""Which endpoints there are: full sets from several sources, slots, who is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.stores import HandClock, Log, pod, pods, scrape, store_of

from epp.domain.response import Ending


def slots(store):
    view = store.view()
    return dict(zip((e.name for e in view.endpoints), view.slots.tolist(), strict=True))


class Watcher:
    """Keeps the names of those who came and went."""

    def __init__(self, store):
        self.told = []
        store.subscribe(self)

    def __call__(self, added, removed):
        self.told.append(([e.name for e in added], [e.name for e in removed]))


def test_knows_nothing_until_a_source_has_spoken():
    store = store_of()
    assert not store.synced

    store.set_endpoints("file", [])
    assert store.synced


def test_a_full_set_replaces_that_of_its_source_only():
    store = store_of()
    store.set_endpoints("a", [pod(0), pod(1)])
    store.set_endpoints("b", [pod(2)])
    store.set_endpoints("a", [pod(1)])

    assert {endpoint.name for endpoint in store.endpoints} == {"pod-1", "pod-2"}


def test_the_same_set_again_changes_nothing():
    store = store_of()
    watcher = Watcher(store)
    store.set_endpoints("a", pods(2))
    store.set_endpoints("a", pods(2))

    assert watcher.told == [(["pod-0", "pod-1"], [])]


def test_a_changed_label_is_neither_coming_nor_going():
    store = store_of(pod(0))
    watcher = Watcher(store)
    store.reserve(pod(0), tokens=3, request_id="a")
    store.set_endpoints("test", [pod(0, labels={"role": "decode"})])

    assert watcher.told == []
    assert store.view().endpoints[0].labels == {"role": "decode"}
    assert store.view().inflight_tokens.tolist() == [3]


def test_slots_are_small_and_stable():
    store = store_of(*pods(3))
    store.set_endpoints("test", [pod(2), pod(0)])

    assert slots(store) == {"pod-0": 0, "pod-2": 2}


def test_a_free_slot_is_used_again():
    store = store_of(*pods(3))
    store.set_endpoints("test", [pod(0), pod(2)])
    store.set_endpoints("test", [pod(0), pod(2), pod(7)])

    assert slots(store) == {"pod-0": 0, "pod-2": 2, "pod-7": 1}


def test_a_pod_that_returns_with_another_uid_is_new():
    store = store_of(pod(0, uid="old"))
    store.reserve(pod(0, uid="old"), tokens=3, request_id="a")
    store.set_endpoints("test", [pod(0, uid="new")])

    assert slots(store) == {"pod-0": 1}
    assert store.view().inflight_requests.tolist() == [0]


def test_an_endpoint_at_a_new_address_is_new():
    clock = HandClock()
    store = store_of(pod(0), clock=clock)
    watcher = Watcher(store)
    scrape(store, pod(0), clock.now, waiting=9)
    moved = pod(0, host="10.9.9.9")
    store.set_endpoints("test", [moved])

    assert watcher.told == [(["pod-0"], ["pod-0"])]
    assert slots(store) == {"pod-0": 1}
    assert not store.view().fresh.any()
    assert store.at(moved.address) == moved
    assert store.at(pod(0).address) is None


def test_removal_is_told_before_the_slot_is_used_again():
    store = store_of(*pods(2))
    told = []
    store.on_removed(lambda slot: told.append((slot, len(store.endpoints))))
    store.set_endpoints("test", [pod(1)])
    store.set_endpoints("test", [pod(1), pod(5)])

    assert told == [(0, 1)]
    assert slots(store)["pod-5"] == 0


def test_the_first_of_two_with_one_address_stays():
    log = Log()
    store = store_of(log=log)
    twin = pod(1, host=pod(0).host)
    for _ in range(3):
        store.set_endpoints("test", [pod(0), twin])

    assert store.endpoints == (pod(0),)
    [(level, event, fields)] = log.lines
    assert (level, event) == ("warning", "endpoint_duplicate")
    assert fields["refused"] == "default/pod-1 at 10.0.0.1:8000"
    assert fields["fix"] == "give each endpoint its own address"


def test_a_second_source_cannot_take_an_address_over():
    store = store_of(pod(0))
    store.set_endpoints("other", [pod(5, host=pod(0).host)])

    assert store.endpoints == (pod(0),)


def test_a_refused_twin_takes_over_when_the_first_goes():
    twin = pod(1, host=pod(0).host)
    store = store_of(pod(0), twin)
    store.set_endpoints("test", [twin])

    assert store.endpoints == (twin,)


def test_the_first_request_after_an_idle_time_wakes():
    store = store_of(*pods(2))
    woken = []
    store.on_wake(lambda endpoint: woken.append(endpoint.name))
    first = store.reserve(pod(0), tokens=1, request_id="a")
    store.reserve(pod(0), tokens=1, request_id="b").release(Ending.COMPLETE)
    first.release(Ending.COMPLETE)
    store.reserve(pod(0), tokens=1, request_id="c")

    assert woken == ["pod-0", "pod-0"]


@pytest.mark.parametrize("size", [0, 1, 3])
def test_finds_by_key_and_address(size):
    store = store_of(*pods(size))

    assert [store.endpoint(e.key) for e in pods(size)] == pods(size)
    assert [store.at(e.address) for e in pods(size)] == pods(size)
    assert store.endpoint("default/nobody/") is None


sets = st.lists(st.integers(0, 6), unique=True, max_size=6)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), sets), max_size=12))
def test_after_any_sets_slots_differ_and_are_small(changes):
    store = store_of()
    holders = {}
    store.on_removed(lambda slot: holders.pop(slot))
    for source, numbers in changes:
        store.set_endpoints(source, [pod(number) for number in numbers])
        taken = {slot: name for name, slot in slots(store).items()}
        assert all(taken[slot] == name for slot, name in holders.items())
        holders = taken
        assert len(taken) == len(store.endpoints) == len(store.view())
        assert max(taken, default=0) < 14
