import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.config.units import format_duration, parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("5000", 5000),
        ("20k", 20_000),
        ("1G", 10**9),
        ("4Gi", 4 * 2**30),
        ("1.5Ki", 1536),
        ("1e3", 1000),
        ("1E2", 100),
        ("2E", 2 * 10**18),
        ("100m", 1),
        ("1500m", 2),
        (".5k", 500),
        ("+3M", 3_000_000),
    ],
)
def test_quantities_are_whole_numbers_rounded_up(text, number):
    assert parse_quantity(text) == number


@pytest.mark.parametrize("text", ["", "4Gib", "k", "1 k", "1e", "-1", "9E19", "0x10", "1,5", "NaN"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match=r"quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60s", 60),
        ("1m30s", 90),
        ("0s", 0),
        ("0", 0),
        ("200ms", 0.2),
        ("1.5h", 5400),
        ("-2s", -2),
        ("1h2m3s4ms5us6ns", 3723.004005006),
        (".5s", 0.5),
        ("3µs", 3e-6),
    ],
)
def test_durations_are_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "60", "s", "1x", "1m 30s", "1d", "--1s", "1s1", "ms5"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.text(alphabet="0123456789.eEkKMGTPiunm+- ", max_size=12))
def test_a_quantity_is_in_range_or_an_error(text):
    try:
        value = parse_quantity(text)
    except ValueError:
        return
    assert 0 <= value < 2**63


@given(st.integers(0, 2**62), st.sampled_from(["", "k", "Ki", "M", "Mi", "G", "Gi"]))
def test_a_quantity_is_its_number_times_its_suffix(number, suffix):
    factor = {"k": 10**3, "M": 10**6, "G": 10**9, "K": 2**10}
    factor |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1}
    expected = number * factor[suffix]

    try:
        assert parse_quantity(f"{number}{suffix}") == expected
    except ValueError:
        assert expected >= 2**63


@given(st.integers(0, 10**15).map(lambda microseconds: microseconds / 1e6))
def test_a_written_duration_reads_back(seconds):
    assert math.isclose(parse_duration(format_duration(seconds)), seconds, rel_tol=1e-9)
