"""Predictions through the plugins: what teaches them, who reads them, what a cold start does."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from support.pools import Shelf, decision, endpoint, pool, request, tools
from support.stores import HandClock, pod, scrape, store_of

from epp.assemble import assemble_text, bare_house
from epp.domain.response import Ending, ResponseHead, Usage
from epp.errors import Saturated
from epp.plugins.admitters.latency_slo import LatencySloAdmitter
from epp.plugins.catalog import CATALOGUE
from epp.plugins.filters.prefix_cache_affinity import PrefixCacheAffinityFilter
from epp.plugins.filters.slo_headroom import SloHeadroomTierFilter
from epp.plugins.producers.predicted_latency import PredictedLatencyProducer
from epp.plugins.scorers.latency import LatencyScorer
from epp.plugins.scorers.predicted_latency import PredictedLatencyScorer

OK = ResponseHead(200, {})
SLO = {"x-llm-d-slo-ttft-ms": "500", "x-slo-tpot-ms": "40"}


PAGE = Path(__file__).parents[3] / "docs" / "predicted-latency.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)


def made(plugin, *lent, **params):
    return plugin(plugin.Params(**params), *lent)


class Traffic:
    """One producer and two endpoints; the first token takes 0.1 s and 0.2 s for 1,000 tokens."""

    def __init__(self, *, state=None, **params):
        self.clock = HandClock()
        self.state = state or Shelf()
        self.producer = made(
            PredictedLatencyProducer, tools(clock=self.clock, state=self.state), **params
        )
        self.view = pool(2)
        self.turn = 0

    @property
    def courses(self):
        return self.producer.courses

    def columns(self, tokens=1000, **fields):
        asked = request(range(tokens), stream=True, arrived=self.clock(), **fields)
        return self.producer.columns(asked, self.view)

    def answer(
        self,
        *,
        view=None,
        head=OK,
        stream=True,
        ending=Ending.COMPLETE,
        tokens=11,
        others=(),
        **more,
    ):
        """One request, picked and answered."""
        self.turn += 1
        view = view or self.view
        prompt = 500 + 100 * (self.turn % 11)
        asked = request(
            range(prompt), id=str(self.turn), stream=stream, arrived=self.clock(), **more
        )
        chosen = decision(view.endpoints[self.turn % len(view)], others=others)
        looked = view.having(self.producer.columns(asked, view))
        self.producer.picked(asked, looked, chosen)
        self.producer.response_started(asked, chosen, head)
        self.clock.tick(0.1 + 0.2 * prompt / 1000)
        self.courses.on_first_token(asked.id)
        self.clock.tick(0.02 * 10)
        if tokens:
            self.producer.used(asked, chosen, Usage(completion_tokens=tokens))
        self.producer.ended(asked, chosen, ending)

    def answers(self, count, **how):
        for _ in range(count):
            self.answer(**how)
        return self

    def samples(self):
        """Learned answers by target."""
        lines = [one.lines for one in self.courses.model.classes]
        return [sum(each[target].fit.samples for each in lines) for target in (0, 1)]


# -- the producer ---------------------------------------------------------------------------------


def test_it_learns_both_times_from_answers_that_stream():
    said = Traffic().answers(96).columns(tokens=1000)

    assert said["predicted_ttft"] == pytest.approx([0.3, 0.3], rel=0.05)
    assert said["predicted_tpot"] == pytest.approx([0.02, 0.02], rel=0.05)


def test_every_column_is_there_under_its_own_name_too():
    said = Traffic().columns(headers=SLO)

    assert {name for name in said if "/" not in name} == set(PredictedLatencyProducer.produces)
    assert {name.removesuffix("/it") for name in said} == set(PredictedLatencyProducer.produces)


def test_headroom_is_what_the_predictions_leave_of_the_slo():
    said = Traffic(sloBufferFactor=0.75).answers(96).columns(headers=SLO)

    assert said["ttft_headroom"] == pytest.approx([0.2, 0.2], abs=0.01)
    assert said["tpot_headroom"] == pytest.approx([0.01, 0.01], abs=0.001)


def test_what_a_request_has_waited_is_taken_from_its_slo():
    traffic = Traffic().answers(96)
    asked = request(range(1000), arrived=traffic.clock() - 0.15, headers=SLO)

    said = traffic.producer.columns(asked, traffic.view)

    assert said["ttft_headroom"] == pytest.approx([0.05, 0.05], abs=0.01)


@pytest.mark.parametrize("value", ["", "soon", "0", "-5", "inf", "nan"])
def test_a_header_that_is_no_number_above_zero_asks_for_nothing(value):
    said = Traffic().answers(96).columns(headers={"x-llm-d-slo-ttft-ms": value})

    assert "ttft_headroom" not in said


@pytest.mark.parametrize(
    ("how", "samples"),
    [
        pytest.param({}, [9, 9], id="a-stream"),
        pytest.param({"tokens": 0}, [9, 0], id="a-stream-without-usage"),
        pytest.param({"tokens": 3}, [9, 0], id="a-short-answer"),
        pytest.param({"ending": Ending.CLIENT_GONE}, [9, 0], id="a-client-that-left"),
        pytest.param({"stream": False}, [0, 0], id="whole-answers-on-a-cold-start"),
        pytest.param({"head": ResponseHead(404, {})}, [0, 0], id="an-error"),
        pytest.param({"head": ResponseHead(503, {})}, [0, 0], id="a-server-error"),
        pytest.param(
            {"head": ResponseHead(200, {}, served="10.0.0.77:8000")}, [0, 0], id="served-elsewhere"
        ),
        pytest.param({"view": pool(fresh=[False, False])}, [0, 0], id="metrics-that-are-too-old"),
        pytest.param(
            {"others": [("prefill", endpoint(5))]}, [0, 9], id="a-prompt-computed-elsewhere"
        ),
    ],
)
def test_what_teaches_it(how, samples):
    assert Traffic().answers(9, **how).samples() == samples


def test_answers_in_one_piece_teach_once_first_tokens_are_predicted():
    traffic = Traffic().answers(56, tokens=0).answers(9, stream=False)

    assert traffic.samples() == [56, 9]


def test_in_watch_mode_it_stays_cold():
    traffic = Traffic()
    for number in range(99):
        asked = request(range(100), id=str(number), stream=True)
        looked = traffic.view.having(traffic.producer.columns(asked, traffic.view))
        traffic.producer.picked(asked, looked, decision(traffic.view.endpoints[0]))
        traffic.producer.response_started(asked, decision(traffic.view.endpoints[0]), OK)
        traffic.producer.ended(asked, decision(traffic.view.endpoints[0]), Ending.COMPLETE)

    assert traffic.samples() == [0, 0]
    assert len(traffic.courses) == 0


def test_nothing_is_left_of_requests_that_are_over():
    traffic = Traffic()
    for ending in Ending:
        traffic.answers(3, ending=ending)
        traffic.answers(3, ending=ending, head=ResponseHead(500, {}))

    assert len(traffic.courses) == 0


def test_an_endpoint_that_goes_takes_its_open_requests_along():
    traffic = Traffic()
    asked = request(range(100), stream=True)
    looked = traffic.view.having(traffic.producer.columns(asked, traffic.view))
    traffic.producer.picked(asked, looked, decision(traffic.view.endpoints[1]))
    traffic.courses.on_removed(1)
    traffic.courses.on_first_token("r1")

    assert (len(traffic.courses), traffic.samples()) == (0, [0, 0])


def test_a_reload_finds_what_was_learned():
    state = Shelf()
    Traffic(state=state).answers(96)

    assert not np.isnan(Traffic(state=state).columns()["predicted_ttft"]).any()


def test_another_number_of_samples_is_another_state():
    state = Shelf()
    Traffic(state=state).answers(96)

    assert np.isnan(Traffic(state=state, minSamples=64).columns()["predicted_ttft"]).all()


def test_the_stores_own_shelf_keeps_it_over_a_reload_and_tells_it_of_first_tokens():
    store = store_of(pod(0))
    house = replace(bare_house(seed=1), shelf=store.shelf)
    first, second = (producer_of(assemble_text(EXAMPLES[0], "a", CATALOGUE, house)) for _ in "ab")
    view = store.view()
    asked, chosen = request(range(500), stream=True), decision(view.endpoints[0])
    scrape(store, pod(0), 999.0, running=1.0)
    view = store.view()
    first.picked(asked, view.having(first.columns(asked, view)), chosen)
    store.reserve(pod(0), tokens=500, request_id=asked.id).first_token()
    (one,) = second.courses.model.classes

    assert second.courses is first.courses
    assert one.lines[0].fit.samples == 1


def test_it_can_learn_and_tell_nobody():
    traffic = Traffic(predictInProduce=False).answers(96)
    (one,) = traffic.courses.model.classes

    assert traffic.columns() == {}
    assert one.lines[0].errors.recent < 0.1


def test_endpoints_of_unlike_labels_are_unlike_classes():
    traffic = Traffic(classLabels=["gpu"])
    traffic.view = pool(
        endpoints=[
            endpoint(0, labels={"gpu": "h100", "llm-d.ai/role": "decode"}),
            endpoint(1, labels={"gpu": "l40s", "llm-d.ai/role": "decode"}),
            endpoint(2, labels={"colour": "red"}),
        ]
    )
    traffic.columns()

    assert [one.name for one in traffic.courses.model.classes] == [
        "h100|decode",
        "l40s|decode",
        "any",
    ]


def test_late_answers_are_counted_where_an_slo_was_asked_for():
    traffic = Traffic().answers(5, headers={"x-slo-ttft-ms": "10"}).answers(5, headers=SLO)

    assert traffic.courses.missed == [5, 0]


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"trainingServerURL": "http://localhost:8000"}, "no side-car is asked"),
        ({"predictionServers": ["http://localhost:8001"]}, "no side-car is asked"),
        ({"useEncoderCacheFeatures": True}, "not known here"),
        ({"sloBufferFactor": 0}, "greater than 0"),
    ],
)
def test_parameters_it_refuses(params, why):
    with pytest.raises(ValidationError, match=why):
        PredictedLatencyProducer.Params.model_validate(params)


def test_parameters_of_the_go_picker_load():
    PredictedLatencyProducer.Params.model_validate(
        {
            "sloBufferFactor": 1.0,
            "contextTTL": "5m",
            "streamingMode": True,
            "endpointRoleLabel": "llm-d.ai/role",
            "predictInProduce": True,
            "useEncoderCacheFeatures": False,
            "samplingMean": 1000.0,
            "maxDecodeTokenSamplesForPrediction": 0,
        }
    )


# -- who reads it ---------------------------------------------------------------------------------


def predicted(ttft, tpot=None, *, slo=None, tpot_slo=None, **columns):
    """A view with predictions in seconds, and headrooms where an SLO is given."""
    told = {"predicted_ttft": ttft, "predicted_tpot": tpot or [0.01] * len(ttft), **columns}
    view = pool(**told)
    if slo is not None:
        view = view.having({"ttft_headroom": slo - view["predicted_ttft"]})
    if tpot_slo is not None:
        view = view.having({"tpot_headroom": tpot_slo - view["predicted_tpot"]})
    return view


BUSY = {"running": [4.0] * 3}
COLD = [math.nan] * 3


@pytest.mark.parametrize(
    ("view", "params", "scores"),
    [
        pytest.param(predicted([0.1, 0.2, 0.3]), {}, [1, 0.61, 0.21], id="no-slo-fastest-first"),
        pytest.param(
            predicted([0.1, 0.1, 0.1], [0.01, 0.02, 0.03]),
            {},
            [1, 0.91, 0.81],
            id="no-slo-further-tokens-weigh-a-fifth",
        ),
        pytest.param(
            predicted([0.1, 0.2, 0.4], slo=0.3, tpot_slo=0.1),
            {},
            [0.21, 1, 0],
            id="least-headroom-of-those-in-time",
        ),
        pytest.param(
            predicted([0.1, 0.2, 0.4], slo=0.3),
            {"headroomSelectionStrategy": "most"},
            [1, 0.01, 0],
            id="most-headroom-of-those-in-time",
        ),
        pytest.param(
            predicted([0.4, 0.5, 0.6], slo=0.3, running=[4.0, 4.0, 0.0]),
            {},
            [0, 0, 1],
            id="nobody-in-time-idle-first",
        ),
        pytest.param(
            predicted([0.1, 0.2, 0.6], [0.09, 0.08, 0.01], slo=0.3, tpot_slo=0.05, **BUSY),
            {"ttftWeight": 0, "tpotWeight": 1},
            [0.01, 1, 0],
            id="first-token-in-time",
        ),
        pytest.param(
            predicted([0.4, 0.5, 0.6], [0.01, 0.01, 0.06], slo=0.3, tpot_slo=0.05, **BUSY),
            {},
            [1, 0.21, 0],
            id="further-tokens-in-time",
        ),
        pytest.param(
            predicted([0.4, 0.5, 0.6], [0.09, 0.08, 0.06], slo=0.3, tpot_slo=0.05, **BUSY),
            {"ttftWeight": 1, "tpotWeight": 0},
            [1, 0.51, 0.01],
            id="neither-the-least-late-first",
        ),
        pytest.param(
            predicted([0.1, 0.2, 0.3], [math.nan] * 3, slo=0.5),
            {},
            [0.01, 0.51, 1],
            id="further-tokens-not-predicted-yet",
        ),
        pytest.param(
            predicted(
                [0.1, math.nan, 0.3], [math.nan] * 3, kv_usage=[0.9, 0.6, 0.0], waiting=[4, 2, 0]
            ),
            {},
            [0.1 / 3, 0.9 / 3, 2 / 3],
            id="cold-a-composite",
        ),
        pytest.param(
            predicted(
                [math.nan] * 2, [math.nan] * 2, prefix_tokens=[50, 100], prefix_total=[100, 100]
            ),
            {"compositeKVWeight": 0, "compositeQueueWeight": 0, "compositePrefixWeight": 2},
            [0.5, 1],
            id="cold-by-prefix-alone",
        ),
        pytest.param(
            predicted(COLD, COLD, fresh=[True, False, True]),
            {},
            [2 / 3, 0, 2 / 3],
            id="cold-old-metrics-behind",
        ),
    ],
)
def test_latency_scores(view, params, scores):
    it = made(LatencyScorer, **params)

    assert it.score(request(range(100)), view) == pytest.approx(scores)


def test_a_scorer_reads_the_producer_it_is_told_to():
    view = predicted([0.1, 0.2]).having({"predicted_ttft/mine": np.array([0.2, 0.1])})
    it = made(LatencyScorer, latencyPredictionInfoProducerName="mine")

    assert it.score(request(), view).tolist() == [0.01, 1.0]


@pytest.mark.parametrize(
    ("params", "scores"),
    [
        pytest.param({}, [0.21, 0.81], id="by-its-own-predictions"),
        pytest.param({"headroomTTFTWeight": 0, "headroomTPOTWeight": 1}, [1.0, 0.01], id="weights"),
        pytest.param(
            {"headroomSelectionStrategy": "composite-only"}, [1 / 3, 2 / 3], id="composite"
        ),
    ],
)
def test_the_older_plugin_scores_what_it_predicts(params, scores):
    older = made(PredictedLatencyScorer, tools("mine"), **params)
    view = predicted([0.1, 0.2], kv_usage=[1.0, 0.0]).having(
        {
            "predicted_ttft/mine": np.array([0.2, 0.1]),
            "predicted_tpot/mine": np.array([0.01, 0.02]),
        }
    )

    assert older.score(request(), view) == pytest.approx(scores)


def test_the_older_plugin_learns_as_the_producer_does():
    older = made(PredictedLatencyScorer, tools("mine"))

    assert {"predicted_ttft", "predicted_ttft/mine"} <= older.columns(request(), pool(2)).keys()
    assert isinstance(older, PredictedLatencyProducer)


def test_a_scorer_in_which_nothing_counts_is_refused():
    with pytest.raises(ValidationError, match="give one of them a weight"):
        made(LatencyScorer, ttftWeight=0, tpotWeight=0)


@pytest.mark.parametrize(
    ("view", "kept"),
    [
        pytest.param(predicted([0.1, 0.2, 0.4], slo=0.3), [0, 1], id="those-in-time"),
        pytest.param(
            predicted([0.1, 0.2, 0.4], [0.09, 0.01, 0.01], slo=0.3, tpot_slo=0.05), [1], id="both"
        ),
        pytest.param(predicted([0.4, 0.5], slo=0.3), [0, 1], id="none-in-time"),
        pytest.param(predicted([0.4, 0.5]), [0, 1], id="nothing-asked"),
        pytest.param(predicted([math.nan, 0.5], slo=0.3), [0, 1], id="cold"),
        pytest.param(pool(2), [0, 1], id="no-predictions-at-all"),
    ],
)
def test_the_filter_keeps(view, kept):
    it = made(SloHeadroomTierFilter, tools(), epsilonExploreNeg=0)

    assert it.filter(request(), view).nonzero()[0].tolist() == kept


def test_the_filter_explores_the_others_at_times():
    it = made(SloHeadroomTierFilter, tools(), epsilonExploreNeg=0.2)
    view = predicted([0.1, 0.4], slo=0.3)
    explored = sum(it.filter(request(), view).tolist() == [False, True] for _ in range(1000))

    assert 150 < explored < 250


@pytest.mark.parametrize(
    ("view", "priority", "refused"),
    [
        pytest.param(predicted([0.4, 0.5, 0.6], slo=0.3, kv_usage=[0.5] * 3, **BUSY), -1, True),
        pytest.param(predicted([0.4, 0.5, 0.6], slo=0.3, kv_usage=[0.5] * 3, **BUSY), 0, False),
        pytest.param(predicted([0.4, 0.5, 0.2], slo=0.3, kv_usage=[0.5] * 3, **BUSY), -1, False),
        pytest.param(predicted([0.4, 0.5, 0.6], kv_usage=[0.5] * 3, **BUSY), -1, False),
        pytest.param(predicted([0.4, 0.5, 0.6], slo=0.3, kv_usage=[0.5] * 3), -1, False),
        pytest.param(predicted([0.4, 0.5, 0.6], slo=0.3, **BUSY), -1, False),
        pytest.param(
            predicted([0.4, math.nan, 0.6], slo=0.3, kv_usage=[0.5] * 3, **BUSY), -1, False
        ),
    ],
    ids=[
        "too-late-and-sheddable",
        "not-sheddable",
        "one-in-time",
        "nothing-asked",
        "idle",
        "with-nothing-in-memory",
        "cold",
    ],
)
def test_the_admitter_refuses_what_may_be_shed_and_comes_too_late(view, priority, refused):
    it = made(LatencySloAdmitter)
    asked = request(range(10), priority=priority)
    if refused:
        with pytest.raises(Saturated) as caught:
            it.admit(asked, view)
        assert (caught.value.status, caught.value.retry_after) == (429, 1)
    else:
        it.admit(asked, view)


def test_affinity_follows_predictions_where_there_are_any():
    it = made(
        PrefixCacheAffinityFilter, tools(), ttftSource="latencyPredictor", maxTTFTPenaltyMs=100
    )
    cached = {"prefix_tokens": [90, 0], "prefix_total": [100, 100]}

    assert it.filter(request(), predicted([0.2, 0.15], **cached)).tolist() == [True, False]
    assert it.filter(request(), predicted([0.3, 0.15], **cached)).tolist() == [True, True]
    assert it.filter(request(), predicted([math.nan, 0.1], **cached)).tolist() == [True, False]


# -- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", EXAMPLES, ids=["all-that-reads-it", "beside-the-default"])
def test_what_the_page_shows_places_a_request_where_its_slo_is_met(text):
    clock = HandClock()
    house = replace(bare_house(seed=3), clock=clock)
    assembly = assemble_text(text, "the page", CATALOGUE, house)
    policy, view = assembly.policy, pool(2)
    producer = producer_of(assembly)
    teach(producer, clock, view, seconds=[1.0, 0.1])
    asked = request(range(500), stream=True, arrived=clock(), headers=SLO)
    for each in policy.pool_producers:
        view = view.having(each.columns(asked, view))
    for admitter in policy.admitters:
        admitter.admit(asked, view)

    assert policy.scheduler.schedule(asked, view).endpoint.name == "pod-1"


def producer_of(assembly):
    """The only producer of predictions."""
    instances = assembly.instances.values()
    (found,) = (each for each in instances if isinstance(each, PredictedLatencyProducer))
    return found


def teach(producer, clock, view, seconds):
    """A hundred answers, with so many seconds to the first token by endpoint."""
    for number in range(100):
        asked = request(range(500), id=str(number), stream=True, arrived=clock())
        chosen = decision(view.endpoints[number % 2])
        producer.picked(asked, view.having(producer.columns(asked, view)), chosen)
        clock.tick(seconds[number % 2])
        producer.courses.on_first_token(asked.id)
        producer.ended(asked, chosen, Ending.COMPLETE)
