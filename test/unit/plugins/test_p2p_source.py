"""Which endpoint a cache is copied from."""

from collections import Counter

import pytest
from support.pools import decision, pool, request, tools

from epp.plugins.producers.p2p_source import P2pSourceProducer


def named(view, placed, **given):
    it = P2pSourceProducer(P2pSourceProducer.Params.model_validate(given), tools())
    return source(it, view, placed)


def source(it, view, placed):
    changes = it.picked(request(range(1000)), view, placed)
    return changes and changes.set["x-kv-cache-source-host-port"]


@pytest.mark.parametrize(
    ("cached", "delta", "address"),
    [
        pytest.param([0, 640, 128], 1, "10.0.0.1:8000", id="the-longest-match"),
        pytest.param([640, 640, 128], 1, None, id="the-pick-has-as-much"),
        pytest.param([512, 640, 0], 128, "10.0.0.1:8000", id="just-enough-more"),
        pytest.param([512, 640, 0], 129, None, id="too-little-more"),
        pytest.param([0, 0, 0], 1, None, id="nobody-has-anything"),
    ],
)
def test_source(cached, delta, address):
    view = pool(prefix_tokens=cached)

    assert named(view, decision(view.endpoints[0]), minCachedTokenDelta=delta) == address


def test_the_prefill_pick_is_what_counts_where_it_ran():
    view = pool(prefix_tokens=[0, 640, 640])
    placed = decision(view.endpoints[0], others=[("prefill", view.endpoints[1])])

    assert named(view, placed) is None
    assert named(view, placed, prefillProfileName="elsewhere") is not None


def test_equal_sources_are_drawn_by_how_little_waits_there():
    view = pool(prefix_tokens=[0, 640, 600, 500], waiting=[0, 0, 2, 0])
    it = P2pSourceProducer(P2pSourceProducer.Params(), tools())
    drawn = Counter(source(it, view, decision(view.endpoints[0])) for _ in range(2000))

    assert drawn.keys() == {"10.0.0.1:8000", "10.0.0.2:8000"}
    assert drawn["10.0.0.1:8000"] / 2000 == pytest.approx(0.75, abs=0.04)


def test_no_source_where_nobody_looked():
    view = pool(2)

    assert named(view, decision(view.endpoints[0])) is None
