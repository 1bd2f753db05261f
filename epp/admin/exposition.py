"""Metrics as text, in pieces, so that a long page never holds up the requests being placed."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

SAMPLES_PER_PIECE: Final = 400
"""About 1.5 ms of rendering."""
END: Final = b"# EOF\n"


class Piece(Collector):
    """Some samples of one family, as something the library can render."""

    def __init__(self, family: Metric, first: int) -> None:
        self._metric = Metric(family.name, family.documentation, family.type, family.unit)
        self._metric.samples = family.samples[first : first + SAMPLES_PER_PIECE]

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def exposition(registry: CollectorRegistry, accept: str) -> tuple[str, Iterator[bytes]]:
    """Content type and pieces of the page, in the format that `accept` (a header) asks for."""
    encode, content_type = choose_encoder(accept)

    def pieces() -> Iterator[bytes]:
        for family in registry.collect():
            for first in range(0, max(len(family.samples), 1), SAMPLES_PER_PIECE):
                text = encode(Piece(family, first)).removesuffix(END)
                yield text if first == 0 else without_header(text)
        if content_type.startswith("application/openmetrics-text"):
            yield END

    return content_type, pieces()


def without_header(text: bytes) -> bytes:
    """`text` without the comment lines it begins with."""
    while text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return text
