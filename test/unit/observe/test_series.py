"""Cells, families and label limits by themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from epp.observe.labels import LONGEST, LabelCap
from epp.observe.series import Spec, histograms, old, tallies

BOUNDS = (0.1, 1.0, 10.0)


def family():
    return histograms(Spec("h_seconds", "histogram", "help", ("a",), BOUNDS))


@given(st.lists(st.floats(0, 100), max_size=30))
def test_a_histogram_counts_as_the_library_does(values):
    ours = family()
    library = Histogram("h_seconds", "help", ["a"], buckets=BOUNDS, registry=CollectorRegistry())
    for value in values:
        ours.bind("x").observe(value)
        library.labels("x").observe(value)
    ours.bind("x"), library.labels("x")

    def told(family):
        samples = (s for s in family.samples if not s.name.endswith("_created"))
        return {(s.name, s.labels.get("le")): s.value for s in samples}

    (shown,) = ours.collect(old_names=False)
    assert told(shown) == pytest.approx(told(library.collect()[0]))


def test_a_cell_is_bound_once():
    counters = tallies(Spec("c_total", "counter", "help", ("a", "b")))

    assert counters.bind("x", "y") is counters.bind("x", "y")


def test_binding_needs_as_many_values_as_labels():
    with pytest.raises(ValueError, match="c_total: 2 label values needed"):
        tallies(Spec("c_total", "counter", "help", ("a", "b"))).bind("x")


def test_a_counter_has_one_suffix():
    counters = tallies(Spec("c_total", "counter", "help", old=old("d_total")))
    counters.bind().add()

    names = [s.name for shown in counters.collect(old_names=True) for s in shown.samples]
    assert names == ["c_total", "d_total"]


def test_an_older_name_may_call_a_label_otherwise():
    gauges = tallies(Spec("g", "gauge", "help", ("endpoint",), old=old("o", pod="endpoint")))
    gauges.bind("a").set(3)

    (shown,) = list(gauges.collect(old_names=True))[1:]
    assert [(s.labels, s.value) for s in shown.samples] == [({"pod": "a"}, 3)]


def test_a_series_that_appears_while_the_page_is_written_does_not_break_it():
    counters = tallies(Spec("c_total", "counter", "help", ("a",)))
    counters.bind("x").add()
    (shown,) = counters.collect(old_names=False)
    seen = iter(shown.samples)
    next(seen)
    counters.bind("y").add()

    assert list(seen) == []


def test_the_first_names_are_kept():
    cap = LabelCap(2)

    assert [cap(name) for name in ("a", "b", "c", "a", "b")] == ["a", "b", "other", "a", "b"]


def test_pinned_names_take_no_place():
    cap = LabelCap(1, pinned=["known"])

    assert [cap(name) for name in ("known", "a", "b", "known")] == ["known", "a", "other", "known"]


def test_pinning_a_name_that_was_seen_frees_its_place():
    cap = LabelCap(1)
    cap("a")
    cap.pin(["a"])

    assert (cap("b"), cap("a")) == ("b", "a")


def test_a_name_too_long_is_other():
    assert LabelCap()("x" * (LONGEST + 1)) == "other"


@given(st.lists(st.text(max_size=3), max_size=50), st.integers(0, 5))
def test_there_are_never_more_values_than_the_limit_allows(names, limit):
    cap = LabelCap(limit)

    assert len({cap(name) for name in names} - {"other", ""}) <= limit
