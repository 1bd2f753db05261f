"""The handler of one profile, the served verifier, and types that only carry parameters."""

import pytest
from pydantic import ValidationError
from support.pools import decision, endpoint, pool, request, tools

from epp.domain.decision import ProfileResult
from epp.domain.response import Ending, ResponseHead
from epp.plugins.producers.inflight_load import InflightLoadProducer
from epp.plugins.producers.tokens import TokenProducer
from epp.plugins.profiles.single import SingleProfileHandler
from epp.plugins.response.served_verifier import DestinationEndpointServedVerifier
from epp.plugins.sources.metrics import CoreMetricsExtractor, MetricsDataSource


def test_the_only_profile_runs_once():
    handler, result = SingleProfileHandler(), ProfileResult("default", (endpoint(0),))

    assert handler.next_profiles(request(), {}, ["default"]) == ["default"]
    assert not handler.next_profiles(request(), {"default": result}, ["default"])
    assert handler.primary({"default": result}) == "default"


@pytest.mark.parametrize(
    ("served", "shown"),
    [
        pytest.param("10.0.0.1:3000", "10.0.0.1:3000", id="said"),
        pytest.param(None, "fail: missing destination endpoint served metadata", id="not-said"),
    ],
)
def test_the_verifier_shows_who_answered(served, shown):
    changes = DestinationEndpointServedVerifier().response_started(
        request(), decision(endpoint(0)), ResponseHead(200, {}, served)
    )

    assert changes.set == {"x-conformance-test-served-endpoint": shown}


def test_a_metrics_source_reads_its_parameters():
    source = MetricsDataSource(
        MetricsDataSource.Params.model_validate({"interval": "200ms", "insecureSkipVerify": False})
    )

    assert (source.params.interval, source.params.path) == (0.2, "/metrics")


@pytest.mark.parametrize("wrong", [{"scheme": "ftp"}, {"path": "metrics"}, {"port": 0}, {"x": 1}])
def test_a_metrics_source_refuses_what_it_cannot_mean(wrong):
    with pytest.raises(ValidationError):
        MetricsDataSource.Params.model_validate(wrong)


def test_an_extractor_reads_engines_and_custom_metrics():
    params = CoreMetricsExtractor.Params.model_validate(
        {
            "engineConfigs": [
                {
                    "name": "mine",
                    "queuedRequestsSpec": "mine:queue",
                    "customMetrics": [{"attributeKey": "heat", "metricSpec": "mine:heat"}],
                }
            ]
        }
    )

    assert params.engine_configs[0].custom_metrics[0].attribute_key == "heat"
    assert CoreMetricsExtractor(params).params is params


def test_a_tokenizer_over_a_socket_is_refused_with_the_fix():
    with pytest.raises(ValidationError, match="remove"):
        TokenProducer.Params.model_validate({"udsTokenizerConfig": {"socketFile": "/tmp/socket"}})


def test_estimating_is_accepted():
    given = {"modelName": "m", "estimate": {"image": {"static": {"staticToken": 500}}}}

    producer = TokenProducer(TokenProducer.Params.model_validate(given), tools())

    assert producer.params.model_name == "m"


class TestExpectedOutput:
    def made(self, **given):
        given = {"addEstimatedOutputTokens": True} | given
        return InflightLoadProducer(InflightLoadProducer.Params.model_validate(given), tools())

    def load(self, it, view):
        columns = it.columns(request(), view)
        return columns.get("inflight_tokens", view.inflight_tokens).tolist()

    def test_nothing_is_added_unless_asked_for(self):
        it, view = self.made(addEstimatedOutputTokens=False), pool(2, inflight_tokens=[5, 7])
        it.picked(request(range(100)), view, decision(view.endpoints[1]))

        assert self.load(it, view) == [5, 7]

    @pytest.mark.parametrize(
        ("given", "limit", "expected"),
        [
            pytest.param({}, None, 150, id="ratio"),
            pytest.param({"outputRatio": 0.5}, None, 50, id="own-ratio"),
            pytest.param({}, 40, 40, id="clients-limit"),
            pytest.param({"maxEstimatedOutputTokens": 30}, 40, 30, id="configured-limit"),
        ],
    )
    def test_output_is_held_from_pick_to_end(self, given, limit, expected):
        it, view = self.made(**given), pool(2, inflight_tokens=[5, 7], slots=[3, 90])
        asked, chosen = request(range(100), max_output_tokens=limit), decision(view.endpoints[1])
        it.picked(asked, view, chosen)

        assert self.load(it, view) == [5, 7 + expected]

        it.ended(asked, chosen, Ending.CLIENT_GONE)

        assert self.load(it, view) == [5, 7]

    def test_a_new_owner_of_a_slot_starts_with_nothing(self):
        it, view = self.made(), pool(1)
        asked, chosen = request(range(100)), decision(view.endpoints[0])
        it.picked(asked, view, chosen)
        it._expected.on_removed(0)
        it.ended(asked, chosen, Ending.COMPLETE)

        assert self.load(it, view) == [0]
