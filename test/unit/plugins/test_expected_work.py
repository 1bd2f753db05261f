"""The default policy: what each term of its cost does, and that a burst spreads."""

from collections import Counter
from math import expm1

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pools import decision, pool, request, tools

from epp.datastore.sample import LoraState
from epp.plugins.columns import uncached_tokens
from epp.plugins.pickers.max_score import MaxScorePicker
from epp.plugins.producers.approx_prefix import ApproxPrefixCacheProducer
from epp.plugins.scorers.expected_work import ExpectedWorkScorer


def scorer(**given):
    return ExpectedWorkScorer(ExpectedWorkScorer.Params.model_validate(given))


def cost(asked, view, **given):
    return scorer(**given).cost(asked, view).tolist()


def prompt(tokens, **fields):
    return request(range(tokens), **fields)


def matches(cached, total):
    return {"prefix_tokens": cached, "prefix_total": [total] * len(cached)}


def memory(usage):
    """Two endpoints of 8,000 tokens of KV memory."""
    return {"kv_usage": [usage] * 2, "kv_blocks": [500.0] * 2, "block_size": [16.0] * 2}


@pytest.mark.parametrize(
    ("columns", "costs"),
    [
        pytest.param({}, [1256, 1256], id="idle"),
        pytest.param({"inflight_tokens": [0, 500]}, [1256, 1756], id="queued-prefill"),
        pytest.param({"running": [0, 3]}, [1256, 2024], id="batch"),
        pytest.param({"inflight_requests": [0, 3]}, [1256, 2024], id="own-batch"),
        pytest.param(
            {"waiting": [0, 2], "inflight_requests": [0, 2]}, [1256, 1768], id="own-waits"
        ),
        pytest.param({"waiting": [0, 2]}, [1256, 3768], id="waiting-of-others"),
        pytest.param({"inflight_tokens": [500, 500]}, [2256, 2256], id="pressure"),
        pytest.param(
            {"inflight_tokens": [500, 500], **matches([0, 512], 1000)},
            [2256, 1488],
            id="pressure-makes-a-match-worth-more",
        ),
        pytest.param(matches([0, 512], 1000), [1256, 744], id="cached"),
        pytest.param(matches([0, 64], 1000), [1256, 1256], id="match-below-the-gate"),
        pytest.param(
            {"inflight_tokens": [0, 513], **matches([0, 512], 1000)},
            [1256, 1257],
            id="hot-prefix-not-followed",
        ),
        pytest.param(
            {"inflight_tokens": [0, 512], **matches([0, 512], 1000)},
            [1256, 1256],
            id="hot-prefix-still-followed",
        ),
        pytest.param(
            {"inflight_tokens": [8192, 8192], "running": [0, 10]},
            [8192 + 9192 + 256, 8192 + 9192 + 256 * 11],
            id="what-a-step-takes-holds-nothing-up",
        ),
        pytest.param(
            {"inflight_tokens": [8592, 8592], "running": [0, 10]},
            [8592 + 9592 + 256, 8592 + 9592 + 256 * 11 + 0.3 * 400 * 10],
            id="prompts-that-wait-hold-up-answers-that-run",
        ),
        pytest.param(
            {"inflight_tokens": [20_000, 20_000], "running": [0, 10]} | matches([0, 512], 1000),
            [20_000 + 21_000 + 256, 20_000 + 21 * 488 + 256 * 11 + 0.3 * 488 * 10],
            id="by-what-is-computed-wherever-it-goes",
        ),
        pytest.param(
            {"inflight_tokens": [9000, 9000], "inflight_requests": [2, 2], "running": [2, 2]}
            | {"inflight_decoding": [0, 2]},
            [9000 + 10_000 + 256 * 3, 9000 + 10_000 + 256 * 3 + 0.3 * 808 * 2],
            id="and-no-prompt-of-ours-that-waits-itself",
        ),
        pytest.param({"slowness": [1, 2]}, [1256, 2512], id="twice-as-slow"),
        pytest.param({"warmth": [1, 0.5]}, [1256, 2512], id="half-warm"),
        pytest.param({"warmth": [1, 0]}, [1256, 16 * 1256], id="cold-still-gets-a-share"),
        pytest.param(
            {"kv_usage": [0, 0.5]}, [1256, 1256 + 1256 * expm1(2.0)], id="kv-memory-half-taken"
        ),
        pytest.param(
            {"kv_usage": [0.5, 0.5], **matches([0, 512], 1000)},
            [1256 + 1256 * expm1(2.0), 744 + 744 * expm1(2.0)],
            id="what-is-cached-takes-no-memory",
        ),
        pytest.param(
            {"inflight_tokens": [0, 2000], **memory(0.5)},
            [1256 + 1256 * expm1(2.0), 3256 + 1256 * expm1(3.0)],
            id="kv-memory-promised",
        ),
        pytest.param(
            {"unseen_tokens": [0, 2000], **memory(0.5)},
            [1256 + 1256 * expm1(2.0), 1256 + 1256 * expm1(3.0)],
            id="kv-memory-promised-since-the-scrape",
        ),
        pytest.param(
            {"inflight_tokens": [0, 8000], **memory(0.9)},
            [1256 + 1256 * expm1(3.6), 9256 + 1256 * expm1(4.0)],
            id="no-more-than-full",
        ),
    ],
)
def test_cost_in_tokens(columns, costs):
    assert cost(prompt(1000), pool(2, **columns)) == pytest.approx(costs)


@pytest.mark.parametrize(
    ("limit", "output"),
    [pytest.param(10, 10, id="lower"), pytest.param(9999, 256, id="higher")],
)
def test_the_clients_limit_bounds_the_memory_an_answer_needs(limit, output):
    asked = prompt(1000, max_output_tokens=limit)

    expected = (1000 + output) * (1 + expm1(2.0))
    assert cost(asked, pool(1, kv_usage=[0.5])) == pytest.approx([expected])


def test_a_prefix_is_copied_into_empty_memory_and_stays_where_all_is_nearly_full():
    queues = {"inflight_tokens": [0, 3000], **matches([0, 2048], 2560)}

    assert best(prompt(2600), pool(kv_usage=[0.0, 0.0], **queues)) == 0
    assert best(prompt(2600), pool(kv_usage=[0.9, 0.9], **queues)) == 1


def test_a_prefix_is_copied_once_the_batch_at_its_holder_is_long():
    view = pool(running=[40, 60], **matches([0, 2048], 2560))

    assert best(prompt(2600), view) == 0


def test_a_full_endpoint_is_left_for_one_with_room():
    view = pool(kv_usage=[0.2, 0.99], **matches([0, 2048], 2560))

    assert best(prompt(2600), view) == 0


def loras(*running, most=2):
    return [LoraState(running=frozenset(names), max_adapters=most) for names in running]


def with_adapters(*running, **columns):
    states = loras(*running)
    return pool(lora=states, prefill_rate=[10_000.0] * len(states), **columns)


def best(asked, view, rater=None):
    return int((rater or scorer()).score(asked, view).argmax())


def test_an_adapter_stays_where_it_runs():
    assert best(prompt(1000, target_model="a"), with_adapters((), ("a",))) == 1


def test_an_adapter_goes_where_there_is_room_rather_than_where_others_hold_every_place():
    rater = scorer()
    rater.score(prompt(1), with_adapters(("a",), ()))
    view = with_adapters(("b", "c"), ("b",), inflight_tokens=[0, 3000])

    assert best(prompt(1000, target_model="a"), view, rater) == 1


def test_a_long_queue_is_worse_than_loading_the_adapter_elsewhere():
    view = with_adapters(("a",), (), inflight_tokens=[9000, 0])

    assert best(prompt(1000, target_model="a"), view) == 1


def test_the_base_model_takes_no_place():
    view = with_adapters(("b", "c"), ("b",), inflight_tokens=[0, 100])

    assert best(prompt(1000, target_model="base"), view) == 0


def test_the_score_is_the_least_cost_over_the_cost():
    view = pool(2, inflight_tokens=[0, 1256])

    assert scorer().score(prompt(1000), view).tolist() == [1.0, 0.5]


def test_an_endpoint_with_old_metrics_stands_behind_every_fresh_one():
    view = pool(3, running=[9, 0, 30], fresh=[True, False, True])
    scores = scorer().score(prompt(1000), view)

    assert scores.argsort().tolist() == [1, 2, 0]


def test_where_all_metrics_are_old_our_own_requests_decide():
    view = pool(2, running=[0, 50], inflight_requests=[2, 1], fresh=[False, False])

    assert scorer().score(prompt(1000), view).argmax() == 1


def test_one_stuck_endpoint_puts_no_pressure_on_the_pool():
    view = pool(3, inflight_tokens=[0, 0, 10**7])

    assert cost(prompt(1000), view)[:2] == [1256, 1256]


def test_no_prompt_still_has_a_cost():
    assert scorer().score(request(), pool(3)).tolist() == [1, 1, 1]


class Ledger:
    """What the picker counts between two scrapes: its own requests and their prompt tokens."""

    def __init__(self, size, usage=0.0):
        self.requests, self.tokens = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self.memory = {
            "kv_usage": np.full(size, usage),
            "kv_blocks": np.full(size, 12_500.0),
            "block_size": np.full(size, 16.0),
        }

    def view(self):
        return pool(
            len(self.requests),
            inflight_requests=self.requests.copy(),
            inflight_tokens=self.tokens.copy(),
            waiting=self.requests.astype(float),
            **self.memory,
        )

    def sent(self, row, tokens):
        self.requests[row] += 1
        self.tokens[row] += tokens


class Burst:
    """Requests placed one after another, with no scrape in between."""

    def __init__(self, size, seed=1, usage=0.0):
        self.ledger = Ledger(size, usage)
        self.scorer = scorer()
        self.picker = MaxScorePicker(MaxScorePicker.Params(), tools(seed=seed))
        params = ApproxPrefixCacheProducer.Params()
        self.producer = ApproxPrefixCacheProducer(params, tools())

    def place(self, asked):
        view = self.ledger.view()
        view = view.having(self.producer.columns(asked, view))
        row = int(self.picker.pick(asked, view, self.scorer.score(asked, view))[0])
        self.producer.picked(asked, view, decision(view.endpoints[row]))
        self.ledger.sent(row, int(uncached_tokens(asked, view)[row]))
        return row


def unlike(number, tokens=800):
    return request([number] * tokens)


@pytest.mark.parametrize("seed", range(5))
def test_a_burst_over_idle_endpoints_ends_within_one_of_even(seed):
    burst = Burst(8, seed)
    counts = Counter(burst.place(unlike(number)) for number in range(64))

    assert set(counts.values()) == {8}


@pytest.mark.parametrize("count", [1, 7, 61])
def test_any_burst_of_like_requests_ends_within_one_of_even(count):
    burst = Burst(8)
    for number in range(count):
        burst.place(unlike(number))

    assert np.ptp(burst.ledger.requests) <= 1


@pytest.mark.parametrize("usage", [0.3, 0.7, 1.0])
def test_a_burst_over_busy_endpoints_ends_within_one_of_even(usage):
    burst = Burst(8, usage=usage)
    for number in range(64):
        burst.place(unlike(number))

    assert np.ptp(burst.ledger.requests) <= 1


def test_a_burst_on_a_short_shared_opening_spreads():
    burst = Burst(8)
    for number in range(64):
        burst.place(request([*range(512), *[1000 + number] * 7000]))

    assert np.ptp(burst.ledger.requests) <= 1


def test_a_hot_prefix_reaches_more_than_one_endpoint():
    burst = Burst(8)
    for number in range(64):
        burst.place(request([*range(4096), *[10_000 + number] * 1024]))

    assert (burst.ledger.requests > 0).sum() > 1


def test_turns_of_a_conversation_stay_where_its_cache_is():
    burst, turns = Burst(8), list(range(2000))
    first = burst.place(request(turns))
    burst.ledger = Ledger(8)

    rows = set()
    for turn in range(1, 6):
        turns += [turn * 10_000 + number for number in range(300)]
        rows.add(burst.place(request(turns)))
        burst.ledger = Ledger(8)

    assert rows == {first}


@given(
    st.integers(0, 5000),
    st.lists(
        st.tuples(
            st.floats(0, 1e4),
            st.floats(0, 1e3),
            st.integers(0, 10**7),
            st.floats(0, 1),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_scores_are_above_zero_and_the_best_has_one(tokens, rows):
    waiting, running, inflight, warm, fresh = (list(column) for column in zip(*rows, strict=True))
    view = pool(
        waiting=waiting, running=running, inflight_tokens=inflight, warmth=warm, fresh=fresh
    )
    scores = scorer().score(prompt(tokens), view)

    assert scores.max() == 1.0
    assert scores.min() > 0.0


@given(
    st.integers(0, 5000),
    st.integers(1, 300),
    st.lists(
        st.fixed_dictionaries(
            {
                "waiting": st.sampled_from([0.0, 0.0, 1.0, 7.5]),
                "running": st.floats(0, 1e3),
                "inflight_requests": st.integers(0, 9),
                "inflight_tokens": st.sampled_from([0, 0, 17, 5000, 60_000]),
                "unseen_tokens": st.sampled_from([0, 0, 300, 9000]),
                "inflight_decoding": st.integers(0, 5),
                "fresh": st.sampled_from([True, True, False]),
                "prefix_tokens": st.sampled_from([0, 64, 640, 4096]),
                "kv_usage": st.floats(0, 1),
                "kv_blocks": st.sampled_from([0.0, 100.0, 27_000.0]),
                "block_size": st.sampled_from([0.0, 16.0]),
                "warmth": st.sampled_from([0.0, 0.5, 1.0]),
                "slowness": st.sampled_from([0.125, 1.0, 1.0, 1.9]),
            }
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_a_pool_of_a_few_is_rated_as_a_pool_of_many(tokens, limit, rows):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["prefix_total"] = [640] * len(rows)
    asked = prompt(tokens, max_output_tokens=limit)
    few = scorer().score(asked, pool(**columns))
    # An odd number of copies leaves the median where it is, and makes the pool too large for rows.
    many = scorer().score(asked, pool(**{name: column * 33 for name, column in columns.items()}))

    assert many.tolist() == pytest.approx(few.tolist() * 33)
