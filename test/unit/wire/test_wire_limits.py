"""Limits of the wire: ranges, how a command line writes them, and the page that lists them."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.app.serving import limits_of
from epp.config.options import RunOptions
from epp.errors import ConfigError
from epp.wire.limits import LIMIT_NAMES, TIMES, Limits, range_of
from epp.wire.tuning import FOLLOWING, GRPCIO, read_limits, written

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
ROW = re.compile(r"^\| `([a-z_]+)` \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)


def problems(*pairs: str, wire: str = "http2") -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read_limits(pairs, wire)
    return list(raised.value.problems)


@pytest.mark.parametrize(
    ("pair", "name", "value"),
    [
        ("max_pings=1000", "max_pings", 1_000),
        ("stream_window=4Mi", "stream_window", 4 << 20),
        ("idle_timeout=10m", "idle_timeout", 600.0),
        ("stall_timeout=0", "stall_timeout", 0.0),
        ("keepalive_timeout=500ms", "keepalive_timeout", 0.5),
    ],
)
def test_counts_and_sizes_are_quantities_and_times_are_durations(pair, name, value):
    assert getattr(read_limits([pair], "http2"), name) == value


def test_the_last_of_a_name_counts():
    assert read_limits(["max_pings=1", "max_pings=2"], "http2").max_pings == 2


def test_what_is_not_given_stays():
    assert read_limits(["max_pings=7"], "http2", Limits(max_streams=3)) == Limits(
        max_streams=3, max_pings=7
    )


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("max_ping=3", "did you mean 'max_pings'?"),
        ("zzz=3", "no such limit; valid: "),
        ("max_pings", "write for example max_pings=500"),
        ("max_pings=", "write for example"),
        ("max_pings=many", "not a quantity"),
        ("max_pings=-1", "out of range"),
        ("max_pings=1e30", "out of range"),
        ("idle_timeout=5", "not a duration"),
        ("idle_timeout=-5s", "give 0s to 168h"),
        ("stream_window=1Ki", "give 16Ki to "),
        ("max_streams=0", "give 1 to "),
        ("max_message_size=1Mi", "follows --max-body-bytes"),
        ("max_assembling=1Mi", "follows --max-held-bytes"),
        ("=", "no such limit"),
    ],
)
def test_a_wrong_one_is_named_with_its_fix(pair, says):
    [problem] = problems(pair)

    assert problem.startswith(f"--wire-limit {pair}: ")
    assert says in problem


def test_every_wrong_one_is_named():
    assert len(problems("max_ping=1", "max_pings=1", "max_streams=0", "idle_timeout=x")) == 3


@pytest.mark.parametrize("name", sorted(set(LIMIT_NAMES) - set(GRPCIO) - set(FOLLOWING)))
def test_what_grpcio_decides_by_itself_is_refused_there(name):
    [problem] = problems(f"{name}={written(name, getattr(Limits(), name))}", wire="grpcio")

    assert "--wire grpcio has no such limit; it has max_streams" in problem


@pytest.mark.parametrize("name", [name for name in LIMIT_NAMES if name not in FOLLOWING])
def test_both_ends_of_a_range_and_the_default_can_be_set(name):
    for value in (*range_of(name), getattr(Limits(), name)):
        assert getattr(read_limits([f"{name}={written(name, value)}"], "http2"), name) == value


def test_limits_out_of_range_are_all_named():
    with pytest.raises(ValueError, match=r"max_streams is 0; give 1.*; interval is 0"):
        Limits(max_streams=0, interval=0.0)


@given(st.lists(st.text(max_size=30), max_size=4))
def test_whatever_is_written_is_read_or_refused(pairs):
    try:
        read_limits(pairs, "http2")
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - either may happen


def documented() -> dict[str, tuple[str, str]]:
    page = OPERATIONS.read_text()
    section = page[page.index("## Limits of the wire") :].split("\n## ")[0]
    return {name: (default, values) for name, default, values in ROW.findall(section)}


def test_the_page_lists_every_limit_in_order():
    assert list(documented()) == list(TIMES)


def shown(name: str) -> tuple[str, str]:
    default = written(name, getattr(limits_of(RunOptions()), name))
    if name in FOLLOWING:
        return default, f"`{FOLLOWING[name]}`"
    least, most = range_of(name)
    return default, f"{written(name, least)} to {written(name, most)}"


@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_the_page_knows_its_default_and_its_range(name):
    assert documented()[name] == shown(name)


def test_the_page_says_what_grpcio_has():
    page = " ".join(OPERATIONS.read_text().split())

    assert f"`--wire grpcio` has {', '.join(f'`{name}`' for name in GRPCIO)} alone" in page
