"""Metrics as text, in pieces, so that a long page never holds up the requests being placed.

The library's writer takes twice the time and writes a page at once: 10 us a line against 5, making
the samples included (`test/bench/bench_observe.py`). So a page of 10,000 lines costs 50 ms of the
one core that also places requests, let go after each piece.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import CollectorRegistry
from prometheus_client.samples import Sample

SAMPLES_PER_PIECE: Final = 250
"""About 1 ms of writing."""
OPENMETRICS: Final = "application/openmetrics-text"
OPENMETRICS_TYPE: Final = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
END: Final = "# EOF\n"
CREATED: Final = "_created"


def exposition(registry: CollectorRegistry, accept: str) -> tuple[str, Iterator[str]]:
    """Content type and pieces of the page, in the format that `accept` (a header) asks for."""
    if wants_openmetrics(accept):
        return OPENMETRICS_TYPE, pieces(registry, openmetrics=True)
    return CONTENT_TYPE_PLAIN_0_0_4, pieces(registry, openmetrics=False)


def wants_openmetrics(accept: str) -> bool:
    """Whether the first format of `accept` that we write is OpenMetrics."""
    for offer in accept.lower().split(","):
        kind, _, parameters = offer.partition(";")
        if kind.strip() in ("text/plain", "*/*", "text/*"):
            return False
        if kind.strip() == OPENMETRICS and "q=0" not in parameters.replace(" ", "").split(";"):
            return True
    return False


def pieces(registry: CollectorRegistry, *, openmetrics: bool) -> Iterator[str]:
    """The families of `registry`, each a header and then its samples."""
    for family in registry.collect():
        yield header(family, openmetrics=openmetrics)
        # When a series began is a sample of OpenMetrics alone.
        samples = (s for s in family.samples if openmetrics or not s.name.endswith(CREATED))
        while piece := list(islice(samples, SAMPLES_PER_PIECE)):
            yield lines(piece)
    if openmetrics:
        yield END


def header(family: Metric, *, openmetrics: bool) -> str:
    """HELP and TYPE of a family; the older format names a counter with its suffix."""
    name, kind = family.name, family.type
    meaning = family.documentation.replace("\\", "\\\\").replace("\n", "\\n")
    if openmetrics:
        meaning = meaning.replace('"', '\\"')
    elif kind == "counter":
        name += "_total"
    elif kind == "info":
        name, kind = f"{name}_info", "gauge"
    elif kind == "unknown":
        kind = "untyped"
    return f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n"


def lines(samples: Sequence[Sample]) -> str:
    """One line for each sample, its labels in the order of the alphabet."""
    return "".join([line(name, labels, value) for name, labels, value, *_ in samples])


def line(name: str, labels: dict[str, str], value: float) -> str:
    if not labels:
        return f"{name} {number(value)}\n"
    shown = ",".join([f'{label}="{escaped(labels[label])}"' for label in sorted(labels)])
    return f"{name}{{{shown}}} {number(value)}\n"


def escaped(value: str) -> str:
    """A label's value between quotes."""
    if "\\" in value or "\n" in value or '"' in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


def number(value: float) -> str:
    """A value as both formats write it."""
    text = repr(float(value))
    if text[-1] in "fn":
        return {"inf": "+Inf", "-inf": "-Inf"}.get(text, "NaN")
    return text
