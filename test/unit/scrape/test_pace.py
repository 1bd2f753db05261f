"""How often an endpoint is asked."""

import pytest

from epp.scrape.pace import back_off, busy_interval, next_interval
from epp.scrape.settings import FetchSettings, ScrapeSettings

SETTINGS = ScrapeSettings()


@pytest.mark.parametrize(
    ("busy", "interval"), [(0, 0.05), (1, 0.05), (25, 0.05), (50, 0.1), (100, 0.2), (500, 1.0)]
)
def test_busy_endpoints_share_five_hundred_scrapes_a_second(busy, interval):
    assert busy_interval(SETTINGS, busy) == pytest.approx(interval)


def test_idle_endpoints_are_asked_ever_more_seldom():
    intervals = [0.05]
    for _ in range(12):
        intervals.append(next_interval(SETTINGS, intervals[-1], is_busy=False, busy=0))

    assert intervals == sorted(intervals)
    assert intervals[-1] == 2.0


def test_a_busy_endpoint_is_asked_quickly_at_once():
    assert next_interval(SETTINGS, 2.0, is_busy=True, busy=1) == 0.05


def test_failing_endpoints_back_off_to_a_limit():
    waits = [back_off(SETTINGS, failures) for failures in (1, 2, 3, 4, 5, 6, 1000)]

    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"scheme": "file"}, "scheme must be http or https, not 'file'"),
        ({"path": "metrics"}, "path must begin with /, not 'metrics'"),
        ({"port": 0}, "port must be 1..65535, not 0"),
    ],
)
def test_refuses_other_ways_to_fetch(fields, why):
    with pytest.raises(ValueError, match=why):
        FetchSettings(**fields)
