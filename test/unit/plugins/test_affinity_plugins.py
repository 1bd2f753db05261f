"""Plugins of affinity to caches, labels, topology and context length."""

import pytest
from support.pools import decision, endpoint, pool, request, tools

from epp.plugins.facts import PEER
from epp.plugins.filters.prefix_cache_affinity import PrefixCacheAffinityFilter
from epp.plugins.filters.topology_affinity import TopologyAffinityFilter
from epp.plugins.scorers.context_length import ContextLengthAware
from epp.plugins.scorers.header_label_affinity import HeaderLabelAffinityScorer
from epp.plugins.scorers.no_hit_lru import LastCold, NoHitLruScorer
from epp.plugins.scorers.topology_affinity import TopologyAffinityScorer
from epp.plugins.sources.metrics import TopologyExtractor


def made(plugin, lent=None, **given):
    params = plugin.Params.model_validate(given)
    return plugin(params, lent) if lent else plugin(params)


LEAD = 18_000 * 15_928 // 1000


@pytest.mark.parametrize(
    ("cached", "queued", "kept"),
    [
        pytest.param([80, 79, 0], [0, 0, 0], [0], id="warm-from-the-threshold-on"),
        pytest.param([79, 0, 0], [0, 0, 0], [0, 1, 2], id="none-warm"),
        pytest.param([90, 95, 99], [0, 9, 9], [0, 1, 2], id="all-warm"),
        pytest.param([90, 0, 0], [LEAD, 0, 9], [0], id="lead-at-the-limit"),
        pytest.param([90, 0, 0], [LEAD + 1, 9, 0], [0, 1, 2], id="lead-over-the-limit"),
        pytest.param([90, 90, 0], [LEAD + 1, 5, 0], [0, 1], id="the-best-warm-one-counts"),
    ],
)
def test_prefix_cache_affinity(cached, queued, kept):
    view = pool(prefix_tokens=cached, prefix_total=[100] * 3, inflight_tokens=queued)
    it = made(PrefixCacheAffinityFilter, tools())

    assert it.filter(request(range(100)), view).nonzero()[0].tolist() == kept


def test_prefix_cache_affinity_explores():
    view = pool(prefix_tokens=[90, 0], prefix_total=[100] * 2)
    it = made(PrefixCacheAffinityFilter, tools(), explorationProbability=0.3)
    explored = sum(it.filter(request(range(100)), view).all() for _ in range(1000))

    assert 250 < explored < 350


def test_prefix_cache_affinity_keeps_all_where_nobody_looked():
    assert made(PrefixCacheAffinityFilter, tools()).filter(request(), pool(3)).all()


def test_prefix_cache_affinity_reads_gos_spelling():
    view = pool(prefix_tokens=[90, 0], prefix_total=[100] * 2, inflight_tokens=[100, 0])
    it = made(PrefixCacheAffinityFilter, tools(), maxTTFTPenaltyMs=5)

    assert it.filter(request(range(100)), view).all()


class TestNoHitLru:
    def pick(self, it, view, row):
        it.picked(request(), view, decision(view.endpoints[row]))

    def test_a_warm_request_is_rated_alike_everywhere(self):
        view = pool(prefix_tokens=[0, 64, 0])

        assert made(NoHitLruScorer, tools()).score(request(), view).tolist() == [0.5] * 3

    def test_never_used_first_then_the_longest_ago(self):
        it, view = made(NoHitLruScorer, tools()), pool(5, prefix_tokens=[0] * 5)
        for row in (1, 3, 1):
            self.pick(it, view, row)

        assert it.score(request(), view).tolist() == [1.0, 0.0, 0.75, 0.25, 0.5]

    def test_one_endpoint_has_the_best_score(self):
        assert made(NoHitLruScorer, tools()).score(request(), pool(1)).tolist() == [1.0]

    def test_warm_picks_do_not_count(self):
        it, view = made(NoHitLruScorer, tools()), pool(2, prefix_tokens=[64, 0])
        self.pick(it, view, 0)

        assert it.score(request(), pool(2)).tolist() == [1.0, 0.0]

    def test_memory_is_bounded_and_forgets_who_goes(self):
        last = LastCold()
        for slot in (1, 2, 3):
            last.note(slot, most=2)
        last.on_removed(3)

        assert last.ranks() == {2: 0}


@pytest.mark.parametrize(
    ("label", "score"),
    [
        pytest.param("0-10000", 0.3 + 0.7 * (0.7 / 2 + 0.3 * 0.5), id="in-range"),
        pytest.param("5000-5000", 0.3 + 0.7 * 0.7, id="no-width"),
        pytest.param("6000-9000", 0.15, id="too-short-for-it"),
        pytest.param("0-3000", 0.1, id="too-long-for-it"),
        pytest.param(None, 0.5, id="no-label"),
        pytest.param("many", 0.5, id="unreadable"),
        pytest.param("9-1", 0.5, id="upside-down"),
    ],
)
def test_context_length_scores(label, score):
    labels = {"llm-d.ai/context-length-range": label} if label else {}
    view = pool(endpoints=[endpoint(0, labels=labels)])

    scores = made(ContextLengthAware).score(request(range(5000)), view)

    assert scores.tolist() == pytest.approx([score])


@pytest.mark.parametrize(
    ("given", "tokens", "kept"),
    [
        pytest.param({}, 50, [0, 1, 2], id="off-by-default"),
        pytest.param({"enableFiltering": True}, 50, [0, 2], id="fits-or-unlabelled"),
        pytest.param({"enableFiltering": True}, 500, [1, 2], id="the-other"),
    ],
)
def test_context_length_filters(given, tokens, kept):
    labels = [{"size": "0-100"}, {"size": "101-1000"}, {}]
    view = pool(endpoints=[endpoint(n, labels=each) for n, each in enumerate(labels)])
    it = made(ContextLengthAware, label="size", **given)

    assert it.filter(request(range(tokens)), view).nonzero()[0].tolist() == kept


def test_context_length_keeps_all_where_nothing_fits():
    view = pool(
        endpoints=[endpoint(0, labels={"size": "0-1"}), endpoint(1, labels={"size": "2-3"})]
    )
    it = made(ContextLengthAware, label="size", enableFiltering=True)

    assert it.filter(request(range(100)), view).all()


def test_header_label_affinity():
    view = pool(endpoints=[endpoint(0, labels={"tenant": "a"}), endpoint(1)])
    it = made(HeaderLabelAffinityScorer, headerName="X-Tenant", labelKey="tenant")

    assert it.score(request(headers={"x-tenant": "a"}), view).tolist() == [1, 0]
    assert it.score(request(), view) is None


def at(host, rack, zone, region):
    """Labels of a place; None leaves a level out."""
    values = {
        "kubernetes.io/hostname": host,
        "topology.kubernetes.io/rack": rack,
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": region,
    }
    return {name: value for name, value in values.items() if value}


PLACES = [
    at("h1", "r1", "z1", "g1"),
    at("h2", "r1", "z1", "g1"),
    at("h3", "r2", "z1", "g1"),
    at("h4", "r3", "z2", "g1"),
    at("h5", "r4", "z3", "g2"),
    at(None, None, None, None),
]


def placed(peer=PLACES[0]):
    asked = request()
    if peer is not None:
        asked.facts.put(PEER, endpoint(99, labels=peer))
    return asked, pool(endpoints=[endpoint(n, labels=each) for n, each in enumerate(PLACES)])


def test_topology_scores_the_nearest_shared_level():
    scores = made(TopologyAffinityScorer).score(*placed())

    assert scores.tolist() == [1.0, 0.2, 0.05, 0.02, 0.0, 0.0]


def test_topology_has_no_opinion_without_a_peer():
    assert made(TopologyAffinityScorer).score(*placed(peer=None)) is None


@pytest.mark.parametrize(
    ("level", "kept"),
    [("host", [0]), ("rack", [0, 1]), ("zone", [0, 1, 2]), ("region", [0, 1, 2, 3])],
)
def test_topology_filter_keeps_what_is_near_enough(level, kept):
    mask = made(TopologyAffinityFilter, minAffinity=level).filter(*placed())

    assert mask.nonzero()[0].tolist() == kept


@pytest.mark.parametrize(
    "peer", [pytest.param(None, id="no-peer"), pytest.param(at("x", "x", "x", "x"), id="far-away")]
)
def test_topology_filter_keeps_all_where_it_cannot_tell(peer):
    assert made(TopologyAffinityFilter, minAffinity="host").filter(*placed(peer=peer)).all()


def test_the_topology_extractor_may_be_named():
    assert TopologyExtractor().type == "topology-extractor"
