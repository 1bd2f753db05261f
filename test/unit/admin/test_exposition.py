"""The text of /metrics: as the library's own writer has it, in both formats."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_text

from epp.admin.exposition import SAMPLES_PER_PIECE, exposition, wants_openmetrics

OPEN = "application/openmetrics-text; version=1.0.0"


def page(registry: CollectorRegistry, accept: str = "") -> str:
    return "".join(exposition(registry, accept)[1])


def told(families) -> dict:
    return {
        (
            family.name,
            family.type,
            family.documentation,
            sample.name,
            *sorted(sample.labels.items()),
        ): ("NaN" if math.isnan(sample.value) else sample.value)
        for family in families
        for sample in family.samples
    }


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
values = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=60)
@given(texts, texts, values, st.floats(0, 100))
def test_both_formats_say_what_the_librarys_writer_says(label, meaning, value, observed):
    registry = CollectorRegistry()
    Gauge("g", meaning, ["z", "a"], registry=registry).labels(label, "x").set(value)
    Counter("c", "counts", ["a"], registry=registry).labels(label).inc(3)
    Histogram("h_seconds", "times", registry=registry).observe(observed)
    Info("build", "which", registry=registry).info({"v": label})

    plain = generate_latest(registry).decode()
    # The library repeats when a series began as a gauge of its own; nobody asked for it here.
    expected = {row: v for row, v in told(read_text(plain)).items() if "_created" not in row[3]}
    assert told(read_text(page(registry))) == expected
    assert told(read_open(page(registry, OPEN))) == told(
        read_open(generate_open(registry).decode())
    )


def test_labels_stand_in_the_order_of_the_alphabet():
    registry = CollectorRegistry()
    Gauge("g", "help", ["name", "model_server_pod"], registry=registry).labels("p", "a").set(1)

    assert 'g{model_server_pod="a",name="p"} 1.0' in page(registry).splitlines()


def test_a_long_family_comes_in_pieces_under_one_header():
    registry = CollectorRegistry()
    gauge = Gauge("g", "help", ["n"], registry=registry)
    for number in range(3 * SAMPLES_PER_PIECE):
        gauge.labels(str(number)).set(number)
    pieces = list(exposition(registry, "")[1])

    assert len(pieces) == 4
    assert "".join(pieces).count("# TYPE") == 1


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/json", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("Application/OpenMetrics-Text;q=0.5", True),
        ("application/openmetrics-text;q=0, text/plain", False),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            True,
        ),
    ],
)
def test_the_format_is_the_first_that_both_sides_write(accept, openmetrics):
    assert wants_openmetrics(accept) is openmetrics
