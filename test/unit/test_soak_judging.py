"""What a soak says of its samples."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import soak_judge as judge

SAMPLE = judge.Sample(
    at=0.0,
    rss_mb=100.0,
    cpu_seconds=0.0,
    files=20,
    tasks=12,
    lag_ms=0.1,
    open=3,
    streams=3,
    held=0,
    queued=0,
    blocks=100,
)
HOUR = 3600.0


def samples(seconds, every=5.0, **of_time):
    """One sample every so often; each field a function of its time."""
    times = [number * every for number in range(int(seconds / every) + 1)]
    return [
        dataclasses.replace(SAMPLE, at=at, **{name: f(at) for name, f in of_time.items()})
        for at in times
    ]


@given(
    slope=st.floats(-10, 10),
    start=st.floats(-100, 100),
    xs=st.lists(st.integers(0, 1000), min_size=2, max_size=30, unique=True),
)
def test_the_slope_of_a_line_is_its_slope(slope, start, xs):
    points = [(float(x), start + slope * x) for x in xs]

    assert judge.slope(points) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("points", [[], [(1.0, 5.0)], [(1.0, 5.0), (1.0, 9.0)]])
def test_where_there_is_no_line_there_is_no_slope(points):
    assert judge.slope(points) == 0.0


def test_thirds_are_of_the_time_and_lose_no_sample():
    made = samples(90, every=10)
    first, second, last = judge.thirds(made)

    assert [s.at for s in first] == [0, 10, 20]
    assert [s.at for s in last] == [60, 70, 80, 90]
    assert [*first, *second, *last] == made


def rising_at_first(at):
    return 100.0 + 60.0 * min(at / 900.0, 1.0)


def saw(at):
    return 100.0 + at % 97 / 20.0


@pytest.mark.parametrize(
    ("seconds", "rss", "good"),
    [
        (HOUR, lambda at: 100.0, True),
        (HOUR, rising_at_first, True),
        (HOUR, saw, True),
        (HOUR, lambda at: 100.0 + at * 12.0 / HOUR, False),
        (HOUR, lambda at: 100.0 + (8.0 if at > 2500.0 else 0.0), False),
        (HOUR, lambda at: 200.0 - at * 12.0 / HOUR, True),
        (120.0, lambda at: 100.0 + at * 12.0 / HOUR, True),
        (120.0, lambda at: 100.0 + at / 2.0, False),
    ],
    ids=[
        "flat",
        "caches fill at first",
        "a saw",
        "12 MiB an hour",
        "a step",
        "falling",
        "too short to tell a slow leak",
        "short, and a fast leak",
    ],
)
def test_memory_is_flat_or_it_is_not(seconds, rss, good):
    verdict = judge.memory(samples(seconds, rss_mb=rss))

    assert verdict.good is good, verdict


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples_are_no_proof(count):
    assert not judge.memory([SAMPLE] * count).good
    assert not judge.flat("files", [SAMPLE] * count, lambda sample: sample.files).good


def test_files_that_come_and_go_are_flat_and_files_that_stay_are_not():
    coming = samples(HOUR, files=lambda at: 20 + int(at) % 4)
    staying = samples(HOUR, files=lambda at: 20 + int(at / 100))

    assert judge.flat("files", coming, lambda sample: sample.files).good
    assert not judge.flat("files", staying, lambda sample: sample.files).good


def test_what_is_left_over_at_rest_is_named():
    zero = judge.at_rest((20, 12), (21, 12), {"open": 0.0, "streams": 0.0})
    left = judge.at_rest((20, 12), (60, 12), {"open": 0.0, "streams": 2.0})

    assert all(verdict.good for verdict in zero)
    assert [verdict.good for verdict in left] == [False, False, True]
    assert "streams" in left[0].told


def test_a_client_that_cannot_keep_up_is_no_soak():
    assert judge.pace(950, 10.0, 100.0).good
    assert not judge.pace(500, 10.0, 100.0).good
