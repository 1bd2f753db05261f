import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pools import pool, request

from epp.errors import NoEndpoints
from epp.scheduling.profile import Named, Profile, Weighted
from epp.scheduling.scheduler import Scheduler


class Scores:
    """Scores as given; counts how often it is asked."""

    def __init__(self, *scores) -> None:
        self.scores = list(scores)
        self.asked = 0

    def score(self, request, pool):
        self.asked += 1
        return self.scores


class NoOpinion:
    def score(self, request, pool):
        return None


class Keeps:
    """Keeps the endpoints with these names."""

    def __init__(self, *names) -> None:
        self.names = names

    def filter(self, request, pool):
        return [endpoint.name in self.names for endpoint in pool.endpoints]


class Best:
    """All endpoints by total, best first; the first of equals first."""

    def pick(self, request, pool, totals):
        return np.argsort(-totals, kind="stable")


class Picks:
    def __init__(self, *rows) -> None:
        self.rows = rows

    def pick(self, request, pool, totals):
        return self.rows


def profile(name="default", *, filters=(), scorers=(), picker=None) -> Profile:
    return Profile(
        name,
        filters=[Named(f"filter-{i}", f) for i, f in enumerate(filters)],
        scorers=[Weighted(f"scorer-{i}", s, w) for i, (s, w) in enumerate(scorers)],
        picker=Named("picker", picker or Best()),
    )


def schedule(view, **members):
    return Scheduler([profile(**members)]).schedule(request(b"hello"), view)


def totals(size, *scorers):
    """Total by endpoint name."""
    result = schedule(pool(size), scorers=scorers).primary
    return {e.name: t for e, t in zip(result.picked, result.totals, strict=True)}


def test_the_total_is_the_weighted_sum():
    assert totals(2, (Scores(1.0, 0.5), 2.0), (Scores(0.0, 1.0), 3.0)) == {
        "pod-1": 4.0,
        "pod-0": 2.0,
    }


def test_scores_are_clamped_to_one_and_zero():
    assert totals(3, (Scores(7.0, -3.0, 0.5), 2.0)) == {"pod-0": 2.0, "pod-2": 1.0, "pod-1": 0.0}


def test_a_score_that_is_no_number_counts_nothing():
    assert totals(2, (Scores(float("nan"), 0.25), 1.0)) == {"pod-1": 0.25, "pod-0": 0.0}


def test_no_opinion_is_left_out_of_the_sum():
    assert totals(2, (NoOpinion(), 5.0), (Scores(0.5, 1.0), 1.0)) == {"pod-1": 1.0, "pod-0": 0.5}


def test_without_scorers_every_total_is_zero():
    assert totals(2) == {"pod-0": 0.0, "pod-1": 0.0}


def test_a_scorer_that_does_not_fit_the_pool_is_named():
    with pytest.raises(ValueError, match=r"scorer-0 returned shape \(3,\) for 2 endpoints"):
        schedule(pool(2), scorers=[(Scores(1, 1, 1), 1.0)])


def test_a_picker_that_picks_nothing_is_named():
    with pytest.raises(ValueError, match="picker picked nothing out of 2"):
        schedule(pool(2), picker=Picks())


def test_filters_run_in_order_on_what_the_one_before_left():
    decision = schedule(pool(4), filters=[Keeps("pod-1", "pod-2", "pod-3"), Keeps("pod-2")])

    assert decision.endpoint.name == "pod-2"


def test_one_survivor_is_picked_without_scoring():
    scorer = Scores(1.0)
    decision = schedule(pool(3), filters=[Keeps("pod-1")], scorers=[(scorer, 1.0)])

    assert (decision.endpoint.name, scorer.asked) == ("pod-1", 0)
    assert decision.reason == "the only endpoint left"


def test_nothing_left_names_the_profile_and_its_filters():
    with pytest.raises(NoEndpoints, match=r"default \(filter-0\) removed all 3"):
        schedule(pool(3), filters=[Keeps()])


def test_an_empty_pool_has_no_endpoint():
    with pytest.raises(NoEndpoints, match="no endpoint of the pool is ready"):
        schedule(pool(0))


def test_a_picker_may_name_fallbacks():
    decision = schedule(pool(3), picker=Picks(2, 0))

    assert decision.destination == "10.0.0.2:8000,10.0.0.0:8000"


def test_the_reason_names_who_decided():
    decision = schedule(pool(2), scorers=[(Scores(1, 0), 2.0), (Scores(1, 0), 1.0)])

    assert decision.reason == "picker over 2 x scorer-0 + 1 x scorer-1"


def test_the_trace_tells_what_was_removed_and_how_the_rest_was_scored():
    trace = schedule(
        pool(3), filters=[Keeps("pod-0", "pod-2")], scorers=[(Scores(1.0, 9.0), 2.0)]
    ).primary.trace

    assert [(f.name, f.removed) for f in trace.filtered] == [("filter-0", ("pod-1",))]
    assert list(trace.candidates) == ["pod-0", "pod-2"]
    assert [(s.name, s.weight, s.scores) for s in trace.scores] == [("scorer-0", 2.0, (1.0, 1.0))]
    assert trace.totals == (2.0, 2.0)


def test_a_trace_survives_a_column_that_changes_later():
    view = pool(kv_usage=[0.25, 0.5])

    class Column:
        def score(self, request, pool):
            return pool.kv_usage

    trace = schedule(view, scorers=[(Column(), 1.0)]).primary.trace
    view.kv_usage[:] = 1.0
    assert trace.totals == (0.25, 0.5)


def test_no_trace_is_kept_when_none_is_wanted():
    scheduler = Scheduler([profile()], traced=False)

    assert scheduler.schedule(request(b"x"), pool(2)).primary.trace is None


class DecodeThenPrefill:
    def next_profiles(self, request, results, names):
        return {0: ("decode",), 1: ("prefill",)}.get(len(results), ())

    def primary(self, results):
        return "decode"


class Handler:
    """Asks for these profiles in turn, one list after another."""

    def __init__(self, *steps, primary) -> None:
        self.steps = list(steps)
        self._primary = primary

    def next_profiles(self, request, results, names):
        return self.steps.pop(0) if self.steps else ()

    def primary(self, results):
        return self._primary


def by_handler(handler, *profiles, size=3):
    return Scheduler(profiles, handler).schedule(request(b"x"), pool(size))


def test_a_handler_runs_profiles_and_names_the_primary():
    decision = by_handler(
        DecodeThenPrefill(),
        profile("prefill", filters=[Keeps("pod-0")]),
        profile("decode", filters=[Keeps("pod-2")]),
    )

    assert decision.endpoint.name == "pod-2"
    assert [(r.profile, r.picked[0].name) for r in decision.others] == [("prefill", "pod-0")]


def test_a_profile_that_finds_nothing_is_left_out_unless_it_is_the_primary():
    prefill, decode = profile("prefill", filters=[Keeps()]), profile("decode")

    assert by_handler(DecodeThenPrefill(), prefill, decode).others == ()
    with pytest.raises(NoEndpoints, match="profile prefill"):
        by_handler(Handler(["decode", "prefill"], primary="prefill"), prefill, decode)


@pytest.mark.parametrize(
    ("steps", "said"),
    [((["a"], ["a"]), "'a' twice"), ((["b"],), "'b', which does not exist")],
    ids=["twice", "unknown"],
)
def test_a_handler_that_asks_for_nonsense_is_stopped(steps, said):
    with pytest.raises(ValueError, match=said):
        by_handler(Handler(*steps, primary="a"), profile("a"))


def test_several_profiles_need_a_handler():
    with pytest.raises(ValueError, match="2 profiles and no handler"):
        Scheduler([profile("a"), profile("b")])


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(
            st.tuples(st.lists(st.floats(), min_size=n, max_size=n), st.floats(0, 100)),
            min_size=1,
            max_size=4,
        )
    )
)
def test_totals_lie_between_zero_and_the_sum_of_the_weights(scorers):
    size = len(scorers[0][0])
    members = [(Scores(*scores), weight) for scores, weight in scorers]
    found = totals(size, *members)

    limit = sum(weight for _, weight in scorers) * (1 + 1e-12)
    assert len(found) == size
    assert all(0 <= total <= limit for total in found.values())
