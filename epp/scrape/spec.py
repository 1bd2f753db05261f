"""Which series of a page to look at, as configurations write it: `family{label=value,...}`."""

import re
from dataclasses import dataclass, field
from typing import Final

from epp.scrape.text import Series, read

_FAMILY: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_TERM: Final = re.compile(r'\s*([a-zA-Z_]\w*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}=]*))\s*')


@dataclass(slots=True, frozen=True)
class MetricSpec:
    """A family and the label values a series of it must have."""

    family: str
    labels: tuple[tuple[str, str], ...] = ()
    _name: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_name", self.family.encode())

    def series(self, page: bytes) -> list[Series]:
        """Matching series of `page`; of two with the same labels the later one."""
        found = read(page, self._name)
        if len(found) > 1:
            found = list({series.raw_labels: series for series in found}.values())
        if not self.labels:
            return found
        return [series for series in found if self._matches(series)]

    def _matches(self, series: Series) -> bool:
        labels = series.labels
        return all(labels.get(name) == value for name, value in self.labels)


def parse_spec(text: str) -> MetricSpec:
    """Read `family` or `family{label=value,...}`, values quoted or not.

    Raises ValueError that says what is wrong with `text`.
    """
    family, brace, rest = text.strip().partition("{")
    family = family.strip()
    if not _FAMILY.fullmatch(family):
        raise ValueError(f"metric spec {text!r}: {family!r} is no metric name")
    if not brace:
        return MetricSpec(family)
    if not rest.endswith("}"):
        raise ValueError(f"metric spec {text!r}: the closing brace is missing")
    return MetricSpec(family, tuple(_terms(text, rest[:-1])))


def _terms(text: str, inside: str) -> list[tuple[str, str]]:
    terms = []
    at = 0
    while inside[at:].strip():
        match = _TERM.match(inside, at)
        if match is None or (match.end() < len(inside) and inside[match.end()] != ","):
            raise ValueError(f"metric spec {text!r}: write labels as label=value,label=value")
        name, quoted, plain = match.groups()
        terms.append((name, plain.strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)))
        at = match.end() + 1
    return terms
