"""How well latencies are predicted, read from the producer when somebody looks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import Metric

from epp.observe.series import Family, Histogram, Kind, Spec, Tally, histograms, tallies


@dataclass(slots=True, frozen=True)
class TargetState:
    """What one producer knows of one target of one class of endpoints."""

    plugin: str
    endpoint_class: str
    target: str
    """`ttft` or `tpot`."""
    samples: int
    warm: bool
    errors: Histogram
    """|predicted - seen| / seen."""
    recent: float
    """The mean of the last of them; NaN before the first."""


@dataclass(slots=True, frozen=True)
class Missed:
    """Answers that came later than their client asked for."""

    plugin: str
    target: str
    count: int


LABELS: Final = ("plugin_name", "endpoint_class", "target")


def predicted(kind: Kind, stem: str, meaning: str, bounds: tuple[float, ...] = ()) -> Spec:
    """A family of the predictions."""
    return Spec(f"llm_d_epp_latency_prediction_{stem}", kind, meaning, LABELS, bounds)


ERROR_BOUNDS: Final = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)
SAMPLES: Final = predicted("counter", "samples_total", "Answers that were learned from.")
WARM: Final = predicted(
    "gauge", "warm", "1 where enough answers were seen to predict, 0 where plugins fall back."
)
ERRORS: Final = predicted(
    "histogram",
    "error_ratio",
    "Absolute error of a prediction over what was seen; sum over count is the mean error.",
    ERROR_BOUNDS,
)
RECENT: Final = predicted(
    "gauge", "recent_error_ratio", "The mean error of the last fifty answers or so; NaN before."
)
MISSED: Final = Spec(
    "llm_d_epp_request_slo_violation_total",
    "counter",
    "Answers later than their request's SLO header asked for, by target: ttft, tpot.",
    ("plugin_name", "type"),
)


class LatencyMetrics:
    """Asks `state` and `missed` at each scrape; they are empty where nothing is predicted."""

    def __init__(
        self, state: Callable[[], Iterable[TargetState]], missed: Callable[[], Iterable[Missed]]
    ) -> None:
        self._state = state
        self._missed = missed

    def collect(self, *, old_names: bool) -> Iterator[Metric]:
        state, missed = list(self._state()), list(self._missed())
        if state or missed:
            for family in latency_families_of(state, missed):
                yield from family.collect(old_names=old_names)


def latency_families_of(
    state: Sequence[TargetState] = (), missed: Sequence[Missed] = ()
) -> Iterator[Family[Tally] | Family[Histogram]]:
    """Every family."""
    yield told(tallies(SAMPLES), ((one, one.samples) for one in state))
    yield told(tallies(WARM), ((one, one.warm) for one in state))
    errors = histograms(ERRORS)
    for one in state:
        errors.cells[labels_of(one)] = one.errors
    yield errors
    yield told(tallies(RECENT), ((one, one.recent) for one in state))
    late = tallies(MISSED)
    for each in missed:
        late.bind(each.plugin, each.target).set(each.count)
    yield late


def told(family: Family[Tally], values: Iterable[tuple[TargetState, float]]) -> Family[Tally]:
    """`family` with a value for each target of each class."""
    for one, value in values:
        family.bind(*labels_of(one)).set(value)
    return family


def labels_of(one: TargetState) -> tuple[str, str, str]:
    return one.plugin, one.endpoint_class, one.target
