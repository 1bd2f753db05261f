"""Handlers of several profiles and the deciders they ask."""

import pytest
from pydantic import ValidationError
from support.pools import decision, endpoint, pool, request, tools

from epp.domain.decision import ProfileResult
from epp.errors import BadRequest
from epp.plugins.deciders.always import AlwaysDisaggMultimodalDecider, AlwaysDisaggPdDecider
from epp.plugins.deciders.prefix_based import PrefixBasedPdDecider
from epp.plugins.facts import PEER, verdict
from epp.plugins.profiles.by_header import HeaderProfileHandler
from epp.plugins.profiles.data_parallel import DataParallelProfileHandler
from epp.plugins.profiles.disagg import DisaggHeadersHandler, DisaggProfileHandler
from epp.plugins.profiles.pd import PdProfileHandler
from epp.scheduling.profile import Named, Profile
from epp.scheduling.scheduler import Scheduler

PROFILES = ("prefill", "decode", "encode")


def made(plugin, given=None, *lent):
    return plugin(plugin.Params.model_validate(given or {}), *lent)


class TestByHeader:
    def test_the_header_names_the_profile(self):
        it = made(HeaderProfileHandler)
        asked = request(headers={"epp-profile": "prefill"})

        assert it.next_profiles(asked, {}, PROFILES) == ("prefill",)

    def test_without_it_the_default_runs_once(self):
        it = made(HeaderProfileHandler)
        result = {"decode": ProfileResult("decode", (endpoint(0),))}

        assert it.next_profiles(request(), {}, PROFILES) == ("decode",)
        assert it.next_profiles(request(), result, PROFILES) == ()
        assert it.primary(result) == "decode"

    def test_a_name_that_is_no_profile_is_the_clients_mistake(self):
        with pytest.raises(BadRequest, match="epp-profile"):
            made(HeaderProfileHandler).next_profiles(
                request(headers={"epp-profile": "nonsense"}), {}, PROFILES
            )


@pytest.mark.parametrize(
    ("given", "tokens", "cached", "yes"),
    [
        pytest.param({"nonCachedTokens": 16}, 1000, 960, True, id="forty-uncached"),
        pytest.param({"nonCachedTokens": 41}, 1000, 960, False, id="not-enough"),
        pytest.param({"nonCachedTokens": 40}, 1000, 960, True, id="just-enough"),
        pytest.param({}, 1000, 0, False, id="never-by-default"),
        pytest.param({"nonCachedTokens": 16, "promptTokens": 1001}, 1000, 0, False, id="short"),
        pytest.param({"nonCachedTokens": 16, "promptTokens": 1000}, 1000, 0, True, id="long"),
    ],
)
def test_the_prefix_decider(given, tokens, cached, yes):
    asked, view = request(range(tokens)), pool(2, prefix_tokens=[0, cached])
    made(PrefixBasedPdDecider, given, tools("d")).columns(asked, view)

    assert verdict(asked, "d", view.endpoints[1]) is yes


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        pytest.param(b'[{"content":[{"type":"image_url","image_url":{}}]}]', True, id="image"),
        pytest.param(b'[{"content":[{"type": "input_audio"}]}]', True, id="audio"),
        pytest.param(
            b'[{"content":[{"type": "image", "source": {}}]}]', True, id="anthropic-image"
        ),
        pytest.param(b'[{"name":"draw","input_schema":{"image":{}}}]', False, id="a-tools-field"),
        pytest.param(b'[{"content":"hello"}]', False, id="text"),
        pytest.param(rb'[{"content":"say \"image_url\""}]', False, id="text-about-images"),
    ],
)
def test_the_multimodal_decider(text, yes):
    asked, view = request(text), pool(1)
    AlwaysDisaggMultimodalDecider(tools("d")).columns(asked, view)

    assert verdict(asked, "d", view.endpoints[0]) is yes


def test_the_deciders_word_is_asked_for_by_name():
    asked, view = request(), pool(1)
    AlwaysDisaggPdDecider(tools("d")).columns(asked, view)

    assert verdict(asked, "d", view.endpoints[0])
    assert not verdict(asked, "other", view.endpoints[0])
    assert not verdict(asked, "d", endpoint(9))


class Run:
    """Runs a handler's profiles; each picks the endpoint given for it, or finds none."""

    def __init__(self, given, *, picks=(0, 1, 2), deciders=("p", "e"), names=PROFILES):
        self.request, self.view = request(range(100)), pool(4)
        for name in deciders:
            AlwaysDisaggPdDecider(tools(name)).columns(self.request, self.view)
        self.handler = made(DisaggProfileHandler, given)
        self.picks = dict(zip(("decode", "prefill", "encode"), picks, strict=True))
        self.results, self.order = {}, []
        while todo := self.handler.next_profiles(self.request, self.results, names):
            for name in todo:
                self.order.append(name)
                self.results[name] = self._result(name)

    def _result(self, name):
        row = self.picks[name]
        return None if row is None else ProfileResult(name, (self.view.endpoints[row],))


BOTH = {"deciders": {"prefill": "p", "encode": "e"}}


@pytest.mark.parametrize(
    ("given", "more", "order"),
    [
        pytest.param({}, {}, ["decode"], id="no-decider"),
        pytest.param(BOTH, {}, ["decode", "encode", "prefill"], id="both"),
        pytest.param(BOTH, {"deciders": ("p",)}, ["decode", "prefill"], id="no-word-is-no"),
        pytest.param(BOTH, {"picks": (None, 1, 2)}, ["decode"], id="no-decode-endpoint"),
        pytest.param(
            BOTH, {"picks": (0, None, None)}, ["decode", "encode", "prefill"], id="stages-empty"
        ),
        pytest.param(BOTH, {"names": ("decode",)}, ["decode"], id="stages-not-configured"),
        pytest.param(
            {"stageOrder": "prefill-first"}, {}, ["prefill", "decode"], id="prefill-first"
        ),
        pytest.param(
            {"stageOrder": "prefill-first"},
            {"picks": (0, None, 2)},
            ["prefill", "decode"],
            id="prefill-first-without-prefill",
        ),
        pytest.param(
            {"stageOrder": "prefill-first", "deciders": {"encode": "e"}},
            {},
            ["prefill", "encode", "decode"],
            id="prefill-first-with-encode",
        ),
    ],
)
def test_order_of_stages(given, more, order):
    assert Run(given, **more).order == order


def test_the_decode_pick_is_the_destination():
    run = Run(BOTH)

    assert run.handler.primary(run.results) == "decode"


@pytest.mark.parametrize(("order", "row"), [("decode-first", 0), ("prefill-first", 1)])
def test_the_first_pick_is_the_peer_of_the_later_ones(order, row):
    run = Run({"stageOrder": order})

    assert run.request.facts.get(PEER) is run.view.endpoints[row]


def test_prefill_first_takes_no_prefill_decider():
    with pytest.raises(ValidationError, match="remove"):
        made(
            DisaggProfileHandler,
            {"stageOrder": "prefill-first", "deciders": {"prefill": "p"}},
        )


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(made(DisaggProfileHandler), id="handler"),
        pytest.param(DisaggHeadersHandler(), id="old-plugin"),
    ],
)
def test_headers_tell_the_sidecar_where_to_go(handler):
    placed = decision(
        endpoint(0), profile="decode", others=[("prefill", endpoint(1)), ("encode", endpoint(2))]
    )

    assert handler.picked(request(), pool(3), placed).set == {
        "x-prefiller-host-port": "10.0.0.1:8000",
        "x-encoder-hosts-ports": "10.0.0.2:8000",
    }


def test_no_other_stage_no_header():
    assert made(DisaggProfileHandler).picked(request(), pool(1), decision(endpoint(0))) is None


class Ranks:
    """Picks these endpoints, through a scheduler with the handler's word."""

    def __init__(self, handler, *picked, profile="default"):
        self.view = pool(endpoints=picked)
        only = Profile(profile, filters=[], scorers=[], picker=Named("picker", self))
        self.decision = Scheduler([only], handler).schedule(request(), self.view)
        changes = handler.picked(request(), self.view, self.decision)
        self.headers = changes.set if changes else {}

    def pick(self, request, pool, totals):
        return range(len(pool))


RANK = "x-data-parallel-host-port"


@pytest.mark.parametrize(
    ("given", "picked", "destination", "rank"),
    [
        pytest.param({}, (endpoint(3, port=8005),), "10.0.0.3:8000", "10.0.0.3:8005", id="rank-5"),
        pytest.param({}, (endpoint(3),), "10.0.0.3:8000", "10.0.0.3:8000", id="rank-0"),
        pytest.param(
            {"primaryPort": 9000},
            (endpoint(3, host="fd00::3", port=9001),),
            "[fd00::3]:9000",
            "[fd00::3]:9001",
            id="ipv6-and-another-port",
        ),
        pytest.param(
            {},
            (endpoint(3, port=8005), endpoint(4, port=8001)),
            "10.0.0.3:8000",
            "10.0.0.3:8005",
            id="no-fallback-to-a-host-without-that-rank",
        ),
    ],
)
def test_a_rank_is_reached_by_the_front_port_of_its_host(given, picked, destination, rank):
    ran = Ranks(made(DataParallelProfileHandler, given), *picked)

    assert ran.decision.destination == destination
    assert ran.headers == {RANK: rank}
    assert ran.decision.endpoint is picked[0]


@pytest.mark.parametrize(
    ("given", "destination", "headers"),
    [
        ({}, "10.0.0.3:8005", {}),
        ({"primaryPort": 8000}, "10.0.0.3:8000", {RANK: "10.0.0.3:8005"}),
    ],
)
def test_the_older_handler_names_the_rank_where_it_has_a_primary_port(given, destination, headers):
    handler = made(PdProfileHandler, given, tools())
    ran = Ranks(handler, endpoint(3, port=8005), profile="decode")

    assert ran.decision.destination == destination
    assert ran.headers == headers


@pytest.mark.parametrize("port", [0, 65536, "http"])
def test_a_front_port_is_a_port(port):
    with pytest.raises(ValidationError):
        made(DataParallelProfileHandler, {"primaryPort": port})
