"""The Go picker's default weights (queue 2, KV memory 2, prefix 3): whole decisions by its numbers.

Queue: (longest - waiting) / (longest - shortest), 1 where all are equal. KV memory: 1 - usage.
Prefix: matched over all blocks of the prompt. A total is the weighted sum; the largest is picked.
"""

import numpy as np
import pytest
from support.configurations import HEAD, QUEUE_KV_PREFIX
from support.pools import pool, request

from epp.assemble import assemble_text, bare_house
from epp.plugins.catalog import CATALOGUE
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL


@pytest.mark.parametrize(
    ("waiting", "kv_usage", "matched", "totals"),
    [
        pytest.param([0, 0, 0], [0.0, 0.0, 0.0], [0, 0, 0], [4.0, 4.0, 4.0], id="all-idle"),
        pytest.param([0, 5, 10], [0.2, 0.2, 0.2], [0, 0, 0], [3.6, 2.6, 1.6], id="queues"),
        pytest.param([3, 3, 3], [0.9, 0.5, 0.1], [0, 0, 0], [2.2, 3.0, 3.8], id="memory"),
        pytest.param([1, 1, 1], [0.5, 0.5, 0.5], [10, 5, 0], [6.0, 4.5, 3.0], id="prefixes"),
        pytest.param(
            [1, 0, 0],
            [0.1, 0.0, 0.0],
            [10, 0, 0],
            [4.8, 4.0, 4.0],
            id="a-match-beats-one-that-waits",
        ),
        pytest.param(
            [1, 0, 0], [0.1, 0.0, 0.0], [6, 0, 0], [3.6, 4.0, 4.0], id="half-a-match-does-not"
        ),
        pytest.param(
            [1, 0, 100],
            [0.1, 0.0, 0.0],
            [6, 0, 0],
            [5.58, 4.0, 2.0],
            id="a-far-longer-queue-makes-others-equal",
        ),
        pytest.param(
            [4, 2, 0], [1.0, 0.6, 0.3], [10, 8, 0], [3.0, 4.2, 3.4], id="all-three-at-once"
        ),
    ],
)
def test_totals_and_the_pick_are_those_of_the_go_picker(waiting, kv_usage, matched, totals):
    policy = assemble_text(
        HEAD + QUEUE_KV_PREFIX, "here.yaml", CATALOGUE, bare_house(seed=1)
    ).policy
    view = pool(waiting=[float(n) for n in waiting], kv_usage=kv_usage)
    blocks = {PREFIX_TOKENS: np.array(matched) * 64, PREFIX_TOTAL: np.full(len(matched), 640)}
    decision = policy.scheduler.schedule(request(b"x" * 2560), view.having(blocks))
    best = np.flatnonzero(np.array(totals) == max(totals))

    assert view.row(decision.endpoint) in best
    assert decision.primary.totals[0] == pytest.approx(max(totals))
    assert decision.primary.trace is not None
    assert list(decision.primary.trace.totals) == pytest.approx(totals)
