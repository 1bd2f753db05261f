"""The policies of flow control: who goes first, which flow, how full is full."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pools import Clock, decision, endpoint, pool, request, tools
from support.queues import contenders, waiting, workload_ordering

from epp.domain.request import Head
from epp.domain.response import Usage
from epp.plugins.fairness.deficit import DeficitRoundRobinFairnessPolicy
from epp.plugins.fairness.program_aware import ProgramAwareFairness
from epp.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from epp.plugins.fairness.strict import GlobalStrictFairnessPolicy
from epp.plugins.ordering.edf import EdfOrderingPolicy
from epp.plugins.ordering.fcfs import FcfsOrderingPolicy
from epp.plugins.ordering.slo_deadline import SloDeadlineOrderingPolicy
from epp.plugins.ordering.workload import WorkloadOrderingPolicy
from epp.plugins.saturation.concurrency import ConcurrencyDetector
from epp.plugins.saturation.learned import LearnedLimitDetector
from epp.plugins.saturation.utilization import UtilizationDetector
from epp.plugins.service import Attained
from epp.plugins.usage_limits.holdback import PriorityHoldbackPolicy
from epp.plugins.usage_limits.reflective import SoftReflectiveCeilingPolicy
from epp.plugins.usage_limits.static import StaticUsageLimitPolicy

# -- ordering -------------------------------------------------------------------------------------


def in_order(policy, *those, now=0.0):
    return [w.number for w in sorted(those, key=lambda w: (policy.rank(w, now), w.number))]


def test_fcfs_goes_by_arrival():
    those = [waiting(2, since=3.0), waiting(1, since=2.0), waiting(3, since=3.0)]

    assert in_order(FcfsOrderingPolicy(), *those) == [1, 2, 3]


def test_edf_goes_by_the_end_of_the_budget():
    those = [waiting(1, expires=60.0), waiting(2, expires=5.0), waiting(3)]

    assert in_order(EdfOrderingPolicy(), *those) == [2, 1, 3]


@pytest.mark.parametrize("nonsense", ["", "soon", "-5", "0", "nan", "inf"])
def test_slo_deadline_goes_by_the_promised_first_token(nonsense):
    def asking(number, value, since=0.0):
        return waiting(number, since=since, head=Head({"x-slo-ttft-ms": value}))

    those = [asking(1, nonsense), asking(2, "900"), asking(3, "100", since=0.5)]

    assert in_order(SloDeadlineOrderingPolicy(), *those) == [3, 2, 1]


def test_critical_workloads_go_first():
    those = [waiting(n, since=0.1 * n, criticality=c) for n, c in enumerate([1, 3, 5])]

    assert in_order(workload_ordering(), *those) == [2, 1, 0]


def test_a_step_of_criticality_is_worth_so_much_waiting():
    ordering = workload_ordering(criticality_step=10.0)
    old, new = waiting(1, since=0.0, criticality=2), waiting(2, since=9.9, criticality=3)
    late = waiting(3, since=10.1, criticality=3)

    assert in_order(ordering, old, new, late) == [2, 1, 3]


def test_who_has_had_much_lately_steps_back():
    ordering = workload_ordering(rate_penalty=10.0)
    greedy, modest = waiting(1, workload="greedy"), waiting(2, since=5.0, workload="modest")
    before = in_order(ordering, greedy, modest)
    ordering.dispatched(waiting(0, workload="greedy"), 10_000, 5.0)

    assert (before, in_order(ordering, greedy, modest)) == ([1, 2], [2, 1])


def test_a_penalty_fades_when_others_get_their_share():
    ordering = workload_ordering()
    ordering.dispatched(waiting(0, workload="a"), 99, 0.0)
    ordering.dispatched(waiting(1, workload="b"), 99, 300.0)
    a, b = waiting(2, workload="a"), waiting(3, workload="b")

    assert in_order(ordering, b, a) == [2, 3]


def test_without_a_header_it_is_the_order_of_arrival():
    ordering = workload_ordering()
    ordering.dispatched(waiting(0), 5000, 0.0)
    those = [waiting(n, since=float(n)) for n in (3, 1, 2)]

    assert in_order(ordering, *those, now=9.0) == [1, 2, 3]


@given(
    first=st.tuples(st.integers(1, 5), st.sampled_from("abc")),
    second=st.tuples(st.integers(1, 5), st.sampled_from("abc")),
    served=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**6)), max_size=8),
    step=st.floats(0.0, 20.0),
    penalty=st.floats(0.0, 20.0),
)
def test_nobody_is_overtaken_by_who_came_later_than_the_limit(first, second, served, step, penalty):
    ordering = workload_ordering(criticality_step=step, rate_penalty=penalty)
    for name, tokens in served:
        ordering.dispatched(waiting(0, workload=name), tokens, 1.0)
    early = waiting(1, since=0.0, criticality=first[0], workload=first[1])
    since = ordering.limit + 0.001
    late = waiting(2, since=since, criticality=second[0], workload=second[1])

    assert ordering.rank(early, since) < ordering.rank(late, since)


def test_room_is_held_back_only_while_something_more_critical_is_about():
    ordering = workload_ordering(holdback=0.4, activity_window=10.0)
    low, usual, high = (waiting(c, criticality=c) for c in (1, 3, 5))
    alone = ordering.share(low, 0.0)
    for each in (low, usual, high):
        ordering.lane(each)
    together = [round(ordering.share(each, 1.0), 3) for each in (low, usual, high)]

    assert (alone, together) == (1.0, [0.6, 0.8, 1.0])
    assert ordering.share(low, 11.0) == 1.0


def test_who_is_queued_again_after_a_long_wait_gives_up_no_room_of_those_who_just_came():
    ordering = workload_ordering(holdback=0.4, activity_window=10.0)
    low = waiting(1, since=20.0, criticality=1)
    for each in (low, waiting(2, since=20.0, criticality=5), waiting(3, criticality=5)):
        ordering.lane(each)

    assert ordering.share(low, 20.0) == 0.6


def test_nothing_is_held_back_from_who_has_waited_the_limit():
    ordering = workload_ordering(criticality_step=1.0, rate_penalty=1.0, activity_window=100.0)
    low = waiting(1, criticality=1)
    for each in (low, waiting(2, criticality=5)):
        ordering.lane(each)

    assert ordering.share(low, 4.9) < 1.0
    assert ordering.share(low, 5.0) == 1.0


def test_the_order_outlives_a_reload():
    house = tools()
    first = WorkloadOrderingPolicy(WorkloadOrderingPolicy.Params(), house)
    first.dispatched(waiting(0, workload="greedy"), 100, 0.0)
    again = WorkloadOrderingPolicy(WorkloadOrderingPolicy.Params(criticality_step="1s"), house)

    assert again.rank(waiting(1, workload="greedy"), 0.0) == 10.0


# -- fairness -------------------------------------------------------------------------------------


def served(policy, flows, rounds, tokens=1):
    """Which flows go, when each of them always has a request; `tokens` by flow or for all."""
    went = []
    for number in range(rounds):
        heads = [waiting(number * 10 + i, flow=flow) for i, flow in enumerate(flows)]
        chosen = policy.choose(0, contenders(*heads), float(number))
        went.append(heads[chosen].flow)
        if hasattr(policy, "dispatched"):
            cost = tokens[went[-1]] if isinstance(tokens, dict) else tokens
            policy.dispatched(heads[chosen], cost, float(number))
    return went


def test_strict_takes_the_best_head_of_all():
    heads = [waiting(1, flow="a", criticality=1), waiting(2, flow="b", criticality=5)]

    assert GlobalStrictFairnessPolicy().choose(0, contenders(*heads), 0.0) == 1


def test_round_robin_takes_one_of_each():
    assert served(RoundRobinFairnessPolicy(tools()), "abc", 7) == list("abcabca")


def test_round_robin_goes_on_where_a_flow_has_gone():
    policy = RoundRobinFairnessPolicy(tools())
    served(policy, "ab", 2)

    assert served(policy, "acd", 3) == ["c", "d", "a"]


def test_bands_have_turns_of_their_own():
    policy = RoundRobinFairnessPolicy(tools())
    heads = contenders(waiting(1, flow="a"), waiting(2, flow="b"))

    assert [policy.choose(band, heads, 0.0) for band in (0, 5, 0, 5)] == [0, 0, 1, 1]


def deficit(quantum=100):
    params = DeficitRoundRobinFairnessPolicy.Params(quantum=quantum)
    return DeficitRoundRobinFairnessPolicy(params, tools())


def test_deficits_even_out_tokens_not_requests():
    tokens = {"long": 999, "short": 99}
    went = served(deficit(), ["long", "short"], 220, tokens)
    cost = {flow: went.count(flow) * (tokens[flow] + 1) for flow in tokens}

    assert abs(cost["long"] - cost["short"]) <= 1000


def test_a_flow_that_comes_late_gets_no_arrears():
    policy = deficit()
    served(policy, ["a", "b"], 100, 99)
    went = served(policy, ["a", "b", "c"], 30, 99)

    assert 9 <= went.count("c") <= 12


def test_what_a_flow_was_sent_while_nobody_else_waited_is_not_held_against_it():
    policy = deficit()
    for number in range(1000):
        policy.dispatched(waiting(number, flow="busy"), 99, 0.0)

    assert served(policy, ["busy", "new"], 10, 99).count("busy") >= 4


@given(st.lists(st.integers(0, 5000), min_size=3, max_size=3), st.integers(1, 5000))
def test_no_flow_falls_behind_by_more_than_its_dearest_request_and_a_quantum(costs, quantum):
    flows = ["a", "b", "c"]
    went = served(deficit(quantum), flows, 200, dict(zip(flows, costs, strict=True)))
    spent = [went.count(flow) * (cost + 1) for flow, cost in zip(flows, costs, strict=True)]

    assert max(spent) - min(spent) <= 2 * (max(costs) + 1 + quantum)


def program_aware(**params):
    clock = Clock(0.0)
    return ProgramAwareFairness(ProgramAwareFairness.Params(**params), tools(clock=clock))


def test_who_has_got_least_goes_first():
    policy = program_aware(las_weight_head_wait=0.0)
    policy.used(request(fairness_id="a"), decision(endpoint()), Usage(10, 500))
    policy.dispatched(waiting(0, flow="b"), 999, 0.0)
    heads = contenders(waiting(1, flow="a"), waiting(2, flow="b"), waiting(3, flow="a"))

    assert policy.choose(0, heads, 0.0) == 1


def test_a_long_wait_makes_up_for_service():
    policy = program_aware(las_weight_service=0.2, las_weight_head_wait=0.8)
    policy.dispatched(waiting(0, flow="a"), 1000, 0.0)
    heads = contenders(waiting(1, flow="a", since=0.0), waiting(2, flow="b", since=90.0))

    assert policy.choose(0, heads, 100.0) == 0


# -- what is remembered ---------------------------------------------------------------------------


def test_service_fades_by_half_in_its_half_life():
    attained = Attained(half_life=10.0)
    attained.add("a", 8.0, 100.0)

    assert attained.of("a", 120.0) == pytest.approx(2.0)


def test_what_is_remembered_is_bounded():
    attained = Attained(half_life=60.0, most=10)
    for number in range(1000):
        attained.add(number, 1.0, 0.0)

    assert len(attained) == 10
    assert attained.share(999) == pytest.approx(0.1)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e6), st.floats(0, 1e4)), max_size=30)
)
def test_service_is_the_sum_of_what_has_not_faded(events):
    attained, now, expected = Attained(half_life=5.0), 0.0, dict.fromkeys("abc", 0.0)
    for name, amount, pause in events:
        now += pause
        expected = {each: total * 0.5 ** (pause / 5.0) for each, total in expected.items()}
        expected[name] += amount
        attained.add(name, amount, now)

    assert {name: attained.of(name, now) for name in "abc"} == pytest.approx(expected, abs=1e-3)


# -- usage limits ---------------------------------------------------------------------------------


def test_a_static_limit_is_one_for_all():
    policy = StaticUsageLimitPolicy(StaticUsageLimitPolicy.Params(threshold=0.9))

    assert policy.ceilings([5, 0, -1], 0.3) == [0.9, 0.9, 0.9]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param({"min_ceiling": 0.6}, [1.0, 0.8, 0.6], id="by-rank"),
        pytest.param({"min_ceiling": 0.5, "domain": "value"}, [1.0, 0.55, 0.5], id="by-value"),
        pytest.param({"min_ceiling": 0.2, "max_ceiling": 0.8}, [0.8, 0.5, 0.2], id="lower-top"),
    ],
)
def test_room_is_held_back_along_a_line(params, expected):
    policy = PriorityHoldbackPolicy(PriorityHoldbackPolicy.Params(**params))

    assert policy.ceilings([9, 0, -1], 0.5) == pytest.approx(expected)


def test_a_single_band_has_all_room():
    policy = PriorityHoldbackPolicy(PriorityHoldbackPolicy.Params(min_ceiling=0.1))

    assert policy.ceilings([0], 0.9) == [1.0]


def test_reflective_ceilings_sink_with_saturation():
    policy = SoftReflectiveCeilingPolicy(tools())

    assert policy.ceilings([2, 1, 0], 0.4) == pytest.approx([1.0, 0.8, 0.6])


def test_past_its_ceiling_a_band_opens_now_and_then():
    policy = SoftReflectiveCeilingPolicy(tools())
    looks = [policy.ceilings([1, 0], 0.75)[1] > 0.75 for _ in range(9)]

    assert looks == [False, False, True] * 3


def test_a_full_pool_opens_nothing():
    policy = SoftReflectiveCeilingPolicy(tools())

    assert all(policy.ceilings([1, 0], 1.0)[1] < 1.0 for _ in range(20))


# -- saturation -----------------------------------------------------------------------------------


def utilization(**params):
    known = {"queue_depth_threshold": 5.0, "kv_cache_util_threshold": 0.9}
    return UtilizationDetector(UtilizationDetector.Params(**(known | params)))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        pytest.param({"waiting": [2.0], "kv_usage": [0.5]}, 0.5556, id="kv-counts"),
        pytest.param({"waiting": [10.0], "kv_usage": [0.1]}, 2.0, id="queue-counts"),
        pytest.param({"waiting": [1.0], "kv_usage": [0.95]}, 1.0556, id="kv-over"),
        pytest.param({"waiting": [5.0], "kv_usage": [0.0]}, 1.0, id="exactly-full"),
        pytest.param({"waiting": [1.0, 0.0], "kv_usage": [0.1, 0.2]}, 0.2111, id="mean"),
        pytest.param(
            {"waiting": [1.0, 50.0], "kv_usage": [0.0, 0.0], "fresh": [True, False]},
            0.2,
            id="unknown-is-left-out",
        ),
        pytest.param(
            {"waiting": [9.0], "kv_usage": [1.0], "fresh": [False]}, 0.0, id="all-unknown"
        ),
    ],
)
def test_utilization_of_the_pool(columns, expected):
    assert utilization().saturation(pool(**columns)) == pytest.approx(expected, abs=1e-4)


def test_utilization_by_endpoint():
    view = pool(waiting=[1.0, 5.0, 0.0], fresh=[True, True, False])

    assert utilization().fullness(view).tolist() == pytest.approx([0.2, 1.0, 1.0])


@pytest.mark.parametrize(
    ("mode", "expected"), [("requests", [0.5, 0.1]), ("tokens", [0.2, 0.9]), ("hybrid", [0.5, 0.9])]
)
def test_concurrency_by_endpoint(mode, expected):
    params = ConcurrencyDetector.Params(
        max_concurrency=10, max_token_concurrency=100, concurrency_mode=mode
    )
    detector = ConcurrencyDetector(params)
    view = pool(inflight_requests=[5, 1], inflight_tokens=[20, 90])

    assert detector.fullness(view).tolist() == pytest.approx(expected)
    assert detector.saturation(view) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("columns", "params", "kept"),
    [
        pytest.param(
            {"waiting": [4.0, 5.0, 6.0], "kv_usage": [0.5, 0.5, 0.5]}, {}, [1, 0, 0], id="queue"
        ),
        pytest.param(
            {"waiting": [4.0, 5.0, 6.0], "kv_usage": [0.5, 0.5, 0.5]},
            {"headroom": 0.2},
            [1, 1, 0],
            id="headroom",
        ),
        pytest.param({"waiting": [0.0] * 2, "kv_usage": [0.89, 0.9]}, {}, [1, 0], id="memory"),
        pytest.param(
            {"waiting": [0.0] * 2, "kv_usage": [0.0] * 2, "fresh": [False, True]},
            {},
            [0, 1],
            id="unknown-is-not-kept",
        ),
        pytest.param({"waiting": [9.0] * 2, "kv_usage": [0.0] * 2}, {}, [1, 1], id="none-so-all"),
        pytest.param(
            {"waiting": [0.0] * 2, "kv_usage": [0.0] * 2, "fresh": [False] * 2},
            {},
            [1, 1],
            id="all-unknown-so-all",
        ),
    ],
)
def test_utilization_filters_where_a_profile_names_it(columns, params, kept):
    mask = utilization(**params).filter(request(), pool(**columns))

    assert mask.tolist() == [bool(one) for one in kept]


@pytest.mark.parametrize(
    ("params", "asked", "kept"),
    [
        pytest.param({}, request(range(50)), [1, 0, 0], id="requests"),
        pytest.param({"headroom": 0.1}, request(range(50)), [1, 1, 0], id="headroom"),
        pytest.param(
            {"concurrency_mode": "tokens"}, request(range(50)), [0, 1, 1], id="tokens-to-come"
        ),
        pytest.param(
            {"concurrency_mode": "tokens"}, request(range(40)), [1, 1, 1], id="tokens-just-fit"
        ),
        pytest.param(
            {"concurrency_mode": "tokens"}, request(b"x" * 400), [1, 1, 1], id="an-estimate-is-0"
        ),
        pytest.param(
            {"concurrency_mode": "hybrid", "headroom": 0.1},
            request(range(50)),
            [1, 1, 0],
            id="both",
        ),
    ],
)
def test_concurrency_filters_where_a_profile_names_it(params, asked, kept):
    known = {"max_concurrency": 10, "max_token_concurrency": 100}
    detector = ConcurrencyDetector(ConcurrencyDetector.Params(**(known | params)))
    view = pool(inflight_requests=[9, 10, 11], inflight_tokens=[60, 50, 0])

    assert detector.filter(asked, view).tolist() == [bool(one) for one in kept]


def test_a_full_pool_has_no_endpoint_for_the_filter_of_concurrency():
    detector = ConcurrencyDetector(ConcurrencyDetector.Params(max_concurrency=1))

    assert not detector.filter(request(), pool(inflight_requests=[1, 1])).any()


# -- limits that are learned ----------------------------------------------------------------------


class Engine:
    """One endpoint as the detector sees it, scraped once a second."""

    def __init__(self, **params):
        self.clock = Clock(0.0)
        given = LearnedLimitDetector.Params(**params)
        self.detector = LearnedLimitDetector(given, tools(clock=self.clock))

    def scraped(self, running, waiting=0, after=1.0, **columns):
        """What the detector says of a scrape of this moment."""
        self.clock.now += after
        return self.looked(running, waiting, **columns)

    def looked(self, running, waiting=0, age=0.0, **columns):
        columns = {name: [value] for name, value in columns.items()}
        view = pool(running=[float(running)], waiting=[float(waiting)], age=[age], **columns)
        return float(self.detector.fullness(view)[0])

    @property
    def limit(self):
        return float(self.detector.limits(pool(1))[0])


def test_pages_that_do_not_show_a_burst_yet_raise_a_limit_once():
    engine = Engine(initial_limit=10)
    for _ in range(5):
        engine.scraped(running=10, after=0.05)

    assert engine.limit == 10 * 1.25 + 1


@pytest.mark.parametrize(
    ("after", "steps"),
    [
        pytest.param(0.25, 1, id="a-quarter-of-a-second"),
        pytest.param(0.5, 2, id="half-a-second"),
        pytest.param(5.0, 4, id="a-second-at-the-most"),
    ],
)
def test_pages_far_apart_raise_a_limit_by_as_many_steps_as_they_are_apart(after, steps):
    engine = Engine(initial_limit=10)
    engine.scraped(running=1)
    engine.looked(running=10, age=after)
    engine.scraped(running=10, after=after)

    assert engine.limit == pytest.approx(10 * 1.25**steps + 1)


def test_a_limit_falls_to_what_runs_where_requests_wait():
    engine = Engine(initial_limit=64)
    for _ in range(60):
        engine.scraped(running=8, waiting=20)

    assert engine.limit == 10.0


def test_a_limit_that_fell_while_a_batch_was_filled_follows_what_runs():
    engine = Engine(initial_limit=64)
    for _ in range(30):
        engine.scraped(running=4, waiting=20)
    engine.scraped(running=30, waiting=20)

    assert engine.limit == 30.0


def test_a_limit_that_is_used_up_without_a_queue_grows():
    engine = Engine(initial_limit=8)
    for _ in range(30):
        engine.scraped(running=round(engine.limit))

    assert engine.limit > 100.0


def test_a_limit_nobody_needs_stays():
    engine = Engine(initial_limit=8)
    for _ in range(20):
        engine.scraped(running=3)

    assert engine.limit == 8.0


def test_what_is_shown_in_place_of_unknown_gauges_raises_no_limit():
    """An idle endpoint is shown one request more than the busiest while its page is late."""
    clock = Clock(0.0)
    detector = LearnedLimitDetector(LearnedLimitDetector.Params(), tools(clock=clock))
    for fresh, running in ((True, 2), (False, 201), (True, 2), (False, 201), (True, 2)):
        clock.now += 5.0
        age = [0.0, 0.0 if fresh else 5.0]
        detector.fullness(pool(running=[50.0, running], age=age, fresh=[True, fresh]))

    assert detector.limits(pool(2)).tolist() == [64.0, 64.0]


def test_looking_again_teaches_nothing():
    engine = Engine(initial_limit=64)
    engine.scraped(running=8, waiting=20)
    once = engine.limit
    for _ in range(50):
        engine.clock.now += 0.00005  # Time goes on between taking a view and looking at it.
        engine.looked(running=8, waiting=20)

    assert engine.limit == once


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=60))
def test_a_limit_falls_only_where_requests_wait_and_never_below_what_runs(scrapes):
    engine = Engine(initial_limit=4)
    for running, queued in scrapes:
        before = engine.limit
        engine.scraped(running, queued)
        assert engine.limit >= (max(running, 1) if queued > max(2, before / 8) else before)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        pytest.param({"kv_usage": 0.95}, 1.0, id="memory"),
        pytest.param(
            {"kv_usage": 0.5, "kv_blocks": 100, "block_size": 16, "inflight_tokens": 720},
            1.0,
            id="memory-on-its-way",
        ),
        pytest.param({"prefill_rate": 1000.0, "inflight_tokens": 2000}, 0.5, id="prefill-ahead"),
        pytest.param({"fresh": False}, 0.0, id="all-unknown"),
    ],
)
def test_an_endpoint_is_also_full_by(columns, expected):
    assert Engine().scraped(running=1, **columns) == pytest.approx(expected, abs=0.02)


def test_the_next_owner_of_a_slot_starts_afresh():
    engine = Engine(initial_limit=64)
    engine.scraped(running=1, waiting=9)
    state = engine.detector._limits
    state.on_removed(0)

    assert engine.limit == 64.0


def test_a_few_that_wait_behind_many_that_run_are_no_queue():
    engine = Engine(initial_limit=100)
    engine.scraped(running=80, waiting=12)

    assert engine.limit == 100

    engine.scraped(running=80, waiting=13)

    assert engine.limit < 100


def test_a_warm_cache_may_be_filled_over_the_brim():
    detector = LearnedLimitDetector(LearnedLimitDetector.Params(initial_limit=10), tools())
    view = pool(4, running=[9.0, 10.0, 10.0, 10.0], waiting=[0.0, 0.0, 9.0, 10.0])

    assert (detector.fullness(view) < 1.0).tolist() == [True, False, False, False]
    assert (detector.brim(view) < 1.0).tolist() == [True, True, True, False]
