"""What the lab's stand-in for event-fed caches says of a prompt that was just sent somewhere."""

import numpy as np
import pytest
from support.pools import Clock, decision, pool, request, tools

from epp.plugins.columns import PREFIX_TOKENS
from epp_lab.baselines.precise import EventsPrefixProducer
from epp_lab.facts import CACHES

PROMPT = b"word " * 400
TOKENS = 500 // 64 * 64


def matched(producer, view, cached=(0, 0)):
    asked = request(PROMPT)
    asked.facts.put(CACHES, lambda _: np.array(cached))
    return producer.columns(asked, view)[PREFIX_TOKENS].tolist()


@pytest.mark.parametrize(
    ("later", "cached", "told"),
    [
        (0.0, (0, 0), [0, TOKENS]),
        (1.9, (0, 0), [0, TOKENS]),
        (2.1, (0, 0), [0, 0]),
        (2.1, (128, 256), [128, 256]),
        (1.0, (500, 128), [500, TOKENS]),
    ],
)
def test_a_pick_is_expected_for_two_seconds_beside_what_is_cached(later, cached, told):
    clock, view = Clock(100.0), pool(2)
    producer = EventsPrefixProducer(tools(clock=clock))
    producer.picked(request(PROMPT), view, decision(view.endpoints[1]))
    clock.now += later

    assert matched(producer, view, cached) == told
